// SPDX-License-Identifier: GPL-2.0-or-later
#include "ctl/capture.h"

#include <errno.h>
#include <time.h>

#include "abi/capture.h"
#include "ctl/client.h"
#include "ctl/table.h"

static const char *text_of(json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

/* "2026-11-21T07:50:12.123456789Z" as nanoseconds since 1970. */
static int parse_moment(const char *text, uint64_t *ret)
{
	struct tm tm = {};
	const char *rest = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
	uint64_t ns = 0;

	if (!rest || *rest++ != '.')
		return -EPROTO;
	for (size_t i = 0; i < 9; i++, rest++) {
		if (*rest < '0' || *rest > '9')
			return -EPROTO;
		ns = ns * 10 + (uint64_t)(*rest - '0');
	}
	if (!streq(rest, "Z") || timegm(&tm) < 0)
		return -EPROTO;
	*ret = (uint64_t)timegm(&tm) * 1000000000 + ns;
	return 0;
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Returns how many bytes, or -EPROTO. */
static int parse_hex(const char *text, uint8_t *ret, size_t max)
{
	size_t n = text ? strlen(text) : 0;

	if (!text || n % 2 || n / 2 > max)
		return -EPROTO;
	for (size_t i = 0; i < n / 2; i++) {
		int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EPROTO;
		ret[i] = (uint8_t)(high << 4 | low);
	}
	return (int)(n / 2);
}

static int write_side(struct ctl_capture *c, json_t *event, json_t *side, enum pcapng_direction direction,
		      const char *comment)
{
	bool is_xdp = streq(text_of(event, "hook"), "xdp"), is_in = direction == PCAPNG_IN;
	uint8_t data[PK_CAPTURE_SNAP];
	char description[32];
	struct pcapng_packet packet = {
		.interface = text_of(side, "interface"),
		.description = description,
		.direction = direction,
		.data = data,
		.length = (uint32_t)json_integer_value(json_object_get(side, "length")),
		.id = c->n_packets,
		.verdict_of = is_xdp ? PCAPNG_VERDICT_XDP : PCAPNG_VERDICT_TC,
		.verdict = (uint64_t)json_integer_value(json_object_get(event, "returned")),
		.comment = comment,
	};
	int n = parse_hex(text_of(side, "data"), data, sizeof(data));

	if (n < 0 || !packet.interface || parse_moment(text_of(side, "time"), &packet.at_ns) < 0)
		return -EPROTO;
	packet.taken = (uint32_t)n;
	(void)snprintf(description, sizeof(description), "%s, %s", is_in ? "in" : "out", is_xdp ? "XDP" : "TC");
	return pcapng_packet(&c->pcapng, &packet);
}

static int write_packet(struct ctl_capture *c, json_t *event, struct err *err)
{
	const char *service = text_of(event, "service"), *backend = text_of(event, "backend");
	const char *verdict = text_of(event, "verdict"), *reason = text_of(event, "reason");
	json_t *in = json_object_get(event, "in"), *out = json_object_get(event, "out");
	_cleanup_free_ char *comment = NULL;
	int r;

	if (!verdict || !reason || !text_of(event, "hook") || !json_is_object(in))
		return ctl_mismatch(NULL, err);
	if (asprintf(&comment, "service=%s backend=%s verdict=%s reason=%s", service ? service : "-",
		     backend ? backend : "-", verdict, reason) < 0) {
		comment = NULL;
		return err_set(err, -ENOMEM, "out of memory");
	}
	r = write_side(c, event, in, PCAPNG_IN, comment);
	if (r >= 0 && json_is_object(out))
		r = write_side(c, event, out, PCAPNG_OUT, comment);
	return r == -EPROTO ? ctl_mismatch(NULL, err) : r < 0 ? err_set(err, r, "%s", strerror(-r)) : 0;
}

/* "12:34:56.123456789" of the local day. */
static int show_time(const char *text, FILE *out)
{
	struct tm local;
	uint64_t ns;
	time_t when;
	char whole[16];

	if (parse_moment(text, &ns) < 0)
		return -EPROTO;
	when = (time_t)(ns / 1000000000);
	if (!localtime_r(&when, &local) || !strftime(whole, sizeof(whole), "%H:%M:%S", &local))
		return -EPROTO;
	(void)fprintf(out, "%s.%09u", whole, (unsigned int)(ns % 1000000000));
	return 0;
}

static int show(json_t *event, FILE *out)
{
	json_t *in = json_object_get(event, "in"), *to = json_object_get(event, "out");
	const char *protocol = text_of(event, "protocol"), *source = text_of(event, "source");
	const char *destination = text_of(event, "destination"), *flags = text_of(event, "flags");
	const char *service = text_of(event, "service"), *backend = text_of(event, "backend");
	const char *reason = text_of(event, "reason"), *verdict = text_of(event, "verdict");
	const char *from = text_of(in, "interface"), *by = text_of(to, "interface");

	if (!reason || !verdict || !from || show_time(text_of(in, "time"), out) < 0)
		return -EPROTO;
	(void)fprintf(out, " %s%s%s", from, by ? " > " : "", by ? by : "");
	(void)fprintf(out, " %s %s > %s", protocol ? protocol : "other", source ? source : "?",
		      destination ? destination : "?");
	if (flags)
		(void)fprintf(out, " [%s]", flags);
	(void)fprintf(out, " %lld bytes: %s", (long long)json_integer_value(json_object_get(in, "length")), verdict);
	(void)fprintf(out, " (%s)%s%s%s%s\n", reason, service ? " " : "", service ? service : "", backend ? " " : "",
		      backend ? backend : "");
	return 0;
}

static int show_packet(struct ctl_capture *c, json_t *event, struct err *err)
{
	struct table_line line;
	int r = table_line_begin(&line, err), end;

	if (r < 0)
		return r;
	r = show(event, line.f);
	end = table_line_end(&line, r < 0 ? NULL : c->out, err);
	return r < 0 ? ctl_mismatch(NULL, err) : end;
}

void ctl_capture_tell_start(json_t *event, FILE *out)
{
	json_t *list = json_object_get(event, "interfaces"), *at;
	size_t i;

	(void)fputs("capturing on", out);
	json_array_foreach(list, i, at) {
		const char *name = text_of(at, "name"), *hook = text_of(at, "hook");

		(void)fprintf(out, "%s %s (%s)", i ? "," : "", name ? name : "?", hook ? hook : "?");
	}
	(void)fprintf(out, "%s\n", json_array_size(list) ? "" : " no interface");
}

int ctl_capture_event(struct ctl_capture *c, json_t *event, struct err *err)
{
	const char *word = text_of(event, "event");
	int r;

	if (!word)
		return ctl_mismatch(NULL, err);
	if (streq(word, "lost")) {
		c->n_lost += (uint64_t)json_integer_value(json_object_get(event, "count"));
		return 0;
	}
	if (streq(word, "end")) {
		/* What was lost last is in here alone. */
		c->n_lost = (uint64_t)json_integer_value(json_object_get(event, "lost"));
		c->has_ended = true;
		return 0;
	}
	if (!streq(word, "packet"))
		return ctl_mismatch(NULL, err);
	r = c->pcapng.f ? write_packet(c, event, err) : c->out ? show_packet(c, event, err) : 0;
	if (r >= 0)
		c->n_packets++;
	return r;
}
