// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * GET /v1/capture: packets as they come in and go out, and what became of them (hook/packet_capture.c). Each listener
 * has a capture of the hook's; who is gone has none. Whatever a listener does not read in time is counted, and told.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <time.h>

#include "base/log.h"
#include "base/num.h"
#include "daemon/control_priv.h"
#include "daemon/run.h"
#include "model/capture_filter.h"

#define SNAPLEN_DEFAULT 2048
#define SNAPLEN_MIN 64
#define QUEUE_BYTES (8U << 20)
/* What the last lines need is never given to packets. */
#define QUEUE_RESERVE 4096
#define COUNT_MAX (1ULL << 40)
#define DURATION_MAX_S (365ULL * 86400)
#define NAMES_MAX 16
#define READ_ALL_MAX 256

/* Of interfaces: each packet has two, and asking the kernel takes longer than all the rest. Forgotten after each batch. */
struct names {
	struct {
		uint32_t ifindex;
		char name[IF_NAMESIZE];
	} v[NAMES_MAX];
	size_t n;
};

struct capture {
	struct control_stream s;
	struct capture *next;
	struct capture_filter filter;
	uint32_t id; /* of the hook's capture, while is_on */
	bool is_on;
	uint64_t snaplen, count, duration_s; /* the last two: 0: without an end */
	uint64_t n_packets, n_lost, hook_lost;
	/* What CLOCK_REALTIME is ahead of the packets' clock: of one packet's moments the order is that of the hook. */
	int64_t offset_ns;
	struct names names;
	ev_timer until;
};

static const char *argument(struct MHD_Connection *conn, const char *name)
{
	return MHD_lookup_connection_value(conn, MHD_GET_ARGUMENT_KIND, name);
}

/* What is asked of the names in a filter, by the numbers that they have at this moment. */

#define NO_ID UINT32_MAX /* of a name that there is not: no packet has it */

static void ids_of_services(const struct run *run, const struct capture_filter *f, struct pk_capture_filter *ret)
{
	uint32_t n = 0;

	for (size_t i = 0; i < f->n[PK_CAPTURE_SERVICE]; i++) {
		const struct service *sv = services_find(run->services, f->services[i]);

		for (const struct frontend *fe = sv ? sv->frontends : NULL; fe && n < PK_CAPTURE_SERVICES;
		     fe = fe->next)
			if (fe->id != LB_NONE)
				ret->services[n++] = fe->id;
	}
	if (f->n[PK_CAPTURE_SERVICE] && !n)
		ret->services[n++] = NO_ID;
	ret->n[PK_CAPTURE_SERVICE] = n;
}

static struct pk_capture_filter filter_of(const struct run *run, const struct capture *k)
{
	const struct capture_filter *f = &k->filter;
	struct pk_capture_filter ret = { .on = 1,
					 .reasons = f->reasons,
					 .protos = f->protos,
					 .negated = f->negated,
					 .snaplen = (uint32_t)k->snaplen };

	for (size_t i = 0; i < _PK_CAPTURE_KINDS; i++)
		ret.n[i] = (uint32_t)f->n[i];
	for (size_t i = 0; i < PK_CAPTURE_VALUES; i++) {
		ret.addrs[i] = f->addrs[i];
		ret.ports[i] = htons(f->ports[i]);
		ret.ifindexes[i] = f->interfaces[i] ? if_nametoindex(f->interfaces[i]) : 0;
		if (f->interfaces[i] && !ret.ifindexes[i])
			ret.ifindexes[i] = NO_ID;
	}
	ids_of_services(run, f, &ret);
	return ret;
}

/* Lines. */

static json_t *moment(uint64_t mono_ns, int64_t offset_ns)
{
	uint64_t ns = mono_ns + (uint64_t)offset_ns;
	time_t seconds = (time_t)(ns / 1000000000);
	char whole[32];
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || !strftime(whole, sizeof(whole), "%Y-%m-%dT%H:%M:%S", &tm))
		return json_null();
	return json_sprintf("%s.%09uZ", whole, (unsigned int)(ns % 1000000000));
}

static json_t *hex(const uint8_t *bytes, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	_cleanup_free_ char *text = malloc(2 * n + 1);

	if (!text)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		text[2 * i] = digits[bytes[i] >> 4];
		text[2 * i + 1] = digits[bytes[i] & 15];
	}
	return json_stringn_nocheck(text, 2 * n);
}

static const char *name_of(struct names *names, uint32_t ifindex)
{
	size_t i = 0;

	while (i < names->n && names->v[i].ifindex != ifindex)
		i++;
	if (i < names->n)
		return names->v[i].name;
	i = names->n < NAMES_MAX ? names->n++ : NAMES_MAX - 1;
	names->v[i].ifindex = ifindex;
	if (!if_indextoname(ifindex, names->v[i].name))
		(void)snprintf(names->v[i].name, sizeof(names->v[i].name), "if%u", ifindex);
	return names->v[i].name;
}

/* A tag that was beside the packet goes where it would be on the wire. */
static size_t with_tag(const struct pk_capture_side *side, const uint8_t *bytes, size_t n, uint8_t *ret)
{
	uint16_t tag[2] = { side->vlan_proto, htons(side->vlan) };

	if (!side->vlan_proto || n < 12) {
		memcpy(ret, bytes, n);
		return n;
	}
	memcpy(ret, bytes, 12);
	memcpy(ret + 12, tag, sizeof(tag));
	memcpy(ret + 12 + sizeof(tag), bytes + 12, n - 12);
	return n + sizeof(tag);
}

static json_t *side_json(struct capture *k, const struct pk_capture_side *side, const uint8_t *bytes)
{
	uint8_t frame[PK_CAPTURE_SNAP + 4];
	size_t n;

	if (!side->taken)
		return json_null();
	n = with_tag(side, bytes, side->taken, frame);
	return json_pack("{s:o, s:s, s:I, s:o}", "time", moment(side->at_ns, k->offset_ns), "interface",
			 name_of(&k->names, side->ifindex), "length", (json_int_t)(side->len + (n - side->taken)),
			 "data", hex(frame, n < k->snaplen ? n : k->snaplen));
}

static json_t *endpoint(const struct lb_addr *addr, uint16_t port)
{
	static const struct lb_addr none;
	char text[ADDR_TEXT_MAX];

	return memcmp(addr, &none, sizeof(none)) ? json_string(addr_format(addr, ntohs(port), text)) : json_null();
}

static json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

static const char *protocol_of(const struct pk_capture_packet *p)
{
	switch (p->proto) {
	case IPPROTO_TCP:
		return "tcp";
	case IPPROTO_UDP:
		return "udp";
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return "icmp";
	default:
		return NULL;
	}
}

/* As tcpdump writes them: "S", "S.", "P.", "F.", ".". */
static json_t *flags_json(const struct pk_capture_packet *p)
{
	static const char letters[] = "FSRP.U";
	char text[sizeof(letters)];
	size_t n = 0;

	if (p->proto != IPPROTO_TCP)
		return json_null();
	for (size_t i = 0; i < 6; i++)
		if (letters[i] != '.' && p->tcp_flags >> i & 1)
			text[n++] = letters[i];
	if (p->tcp_flags >> 4 & 1)
		text[n++] = '.';
	return json_stringn(text, n);
}

static json_t *packet_json(const struct run *run, struct capture *k, const struct pk_capture_packet *p,
			   const uint8_t *bytes)
{
	static const char *const kinds[] = {
		[PK_KIND_SENT] = "sent",
		[PK_KIND_PASS] = "passed",
		[PK_KIND_DROP] = "dropped",
	};
	const struct service *sv = p->service ? services_service_of(run->services, p->service) : NULL;
	const struct backend *b = p->backend ? services_backend_of(run->services, p->backend) : NULL;
	json_t *o = json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "event", "packet", "time",
			      moment(p->in.at_ns, k->offset_ns), "hook", p->is_xdp ? "xdp" : "tc", "protocol",
			      text_or_null(protocol_of(p)), "flags", flags_json(p), "source",
			      endpoint(&p->src, p->sport), "destination", endpoint(&p->dst, p->dport), "service",
			      text_or_null(sv ? sv->name : NULL), "backend", text_or_null(b ? b->text : NULL), "client",
			      p->has_conn ? endpoint(&p->client, p->cport) : json_null());

	if (o &&
	    (json_object_set_new(o, "verdict", json_string(kinds[packet_reason_kind((enum pk_reason)p->reason)])) ||
	     json_object_set_new(o, "reason", json_string(packet_reason_words[p->reason])) ||
	     json_object_set_new(o, "text", json_string(packet_reason_texts[p->reason])) ||
	     json_object_set_new(o, "returned", json_integer((int32_t)p->verdict)) ||
	     json_object_set_new(o, "asks_neighbour", json_boolean(p->asks_neighbour && p->out.taken)) ||
	     json_object_set_new(o, "in", side_json(k, &p->in, bytes)) ||
	     json_object_set_new(o, "out", side_json(k, &p->out, bytes + p->in.taken)))) {
		json_decref(o);
		return NULL;
	}
	return o;
}

/* False: there is no room, or no memory. */
static bool say(struct capture *k, json_t *o, size_t reserve)
{
	_cleanup_free_ char *text = o ? json_dumps(o, CONTROL_JSON) : NULL;
	size_t n = text ? strlen(text) : 0;
	bool fits = text && k->s.queue.n + n + 1 + reserve <= QUEUE_BYTES;

	if (fits) {
		text[n++] = '\n';
		wire_queue_add(&k->s.queue, text, n);
	}
	json_decref(o);
	control_stream_wake(&k->s);
	return fits;
}

/* Beginning and end. */

static void capture_stop(struct capture *k)
{
	struct control *c = k->s.c;
	struct capture **p = &c->captures;

	if (!k->is_on)
		return;
	k->is_on = false;
	ev_timer_stop(c->host.loop, &k->until);
	while (*p != k)
		p = &(*p)->next;
	*p = k->next;
	if (!c->captures)
		ev_io_stop(c->host.loop, &c->captured);
	packet_capture_stop(c->host.run->packet, k->id);
}

static void lost(struct capture *k)
{
	uint64_t all = packet_capture_lost(k->s.c->host.run->packet, k->id);

	if (all == k->hook_lost)
		return;
	k->n_lost += all - k->hook_lost;
	wire_queue_add_lost(&k->s.queue, all - k->hook_lost);
	k->hook_lost = all;
}

static void capture_end(struct capture *k, const char *why)
{
	lost(k);
	capture_stop(k);
	(void)say(k,
		  json_pack("{s:s, s:s, s:I, s:I}", "event", "end", "why", why, "packets", (json_int_t)k->n_packets,
			    "lost", (json_int_t)k->n_lost),
		  0);
	control_stream_end(&k->s);
}

static void on_done(struct control_stream *s)
{
	struct capture *k = (struct capture *)s;

	capture_stop(k);
	capture_filter_done(&k->filter);
	free(k);
}

static void on_packet(const struct pk_capture_packet *p, const uint8_t *bytes, void *data)
{
	struct control *c = data;

	for (struct capture *k = c->captures; k; k = k->next) {
		if (!(p->wanted >> k->id & 1) || (k->count && k->n_packets == k->count))
			continue;
		k->offset_ns = control_realtime_offset();
		if (say(k, packet_json(c->host.run, k, p, bytes), QUEUE_RESERVE)) {
			k->n_packets++;
		} else {
			k->n_lost++;
			wire_queue_add_lost(&k->s.queue, 1);
		}
	}
}

static void on_captured(struct ev_loop *loop, ev_io *w, int revents)
{
	struct control *c = w->data;
	int r = packet_capture_read(c->host.run->packet);
	struct capture *next;

	(void)loop;
	(void)revents;
	if (r < 0)
		log_warn("cannot read captured packets: %s", strerror(-r));
	for (struct capture *k = c->captures; k; k = next) {
		next = k->next;
		k->names.n = 0;
		lost(k);
		if (k->count && k->n_packets == k->count)
			capture_end(k, "count");
	}
}

/* What has come until now is part of a capture that ends. So much may come meanwhile that there is no end of it. */
static void read_all(struct control *c)
{
	for (int i = 0; i < READ_ALL_MAX && packet_capture_read(c->host.run->packet) > 0; i++)
		;
}

static void on_until(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct capture *k = w->data;

	(void)loop;
	(void)revents;
	read_all(k->s.c);
	capture_end(k, "duration");
}

void control_captures_init(struct control *c)
{
	ev_init(&c->captured, on_captured);
	c->captured.data = c;
}

void control_captures_changed(struct control *c)
{
	for (struct capture *k = c->captures; k; k = k->next) {
		struct pk_capture_filter filter = filter_of(c->host.run, k);

		packet_capture_change(c->host.run->packet, k->id, &filter);
	}
}

void control_captures_end(struct control *c, const char *why)
{
	if (c->captures)
		read_all(c);
	while (c->captures)
		capture_end(c->captures, why);
}

static int capture_start(struct control *c, struct capture *k, struct err *err)
{
	struct packet *packet = c->host.run->packet;
	struct pk_capture_filter filter = filter_of(c->host.run, k);
	int r = packet_capture_start(packet, &filter, on_packet, c, &k->id, err);

	if (r < 0)
		return r;
	if (!c->captures) {
		ev_io_set(&c->captured, packet_capture_fd(packet), EV_READ);
		ev_io_start(c->host.loop, &c->captured);
	}
	k->is_on = true;
	k->next = c->captures;
	c->captures = k;
	ev_init(&k->until, on_until);
	k->until.data = k;
	if (k->duration_s) {
		ev_timer_set(&k->until, (double)k->duration_s, 0.);
		ev_timer_start(c->host.loop, &k->until);
	}
	return 0;
}

/* What is asked. */

static int number(struct MHD_Connection *conn, const char *name, uint64_t min, uint64_t max, uint64_t *ret,
		  struct err *err)
{
	const char *text = argument(conn, name);

	if (text && num_parse_u64(text, min, max, ret) < 0)
		return err_set(err, -EINVAL, "'%s' is a number from %llu to %llu", name, (unsigned long long)min,
			       (unsigned long long)max);
	return 0;
}

static int names_exist(const struct run *run, const struct capture_filter *f, struct err *err)
{
	for (size_t i = 0; i < f->n[PK_CAPTURE_SERVICE]; i++)
		if (!services_find(run->services, f->services[i]))
			return err_set(err, -ENOENT, "there is no service '%.100s': see 'waggle status'",
				       f->services[i]);
	for (size_t i = 0; i < f->n[PK_CAPTURE_INTERFACE]; i++)
		if (!if_nametoindex(f->interfaces[i]))
			return err_set(err, -ENOENT, "there is no interface '%.60s'", f->interfaces[i]);
	return 0;
}

/* "?filter=CONDITIONS&snaplen=BYTES&count=PACKETS&duration=SECONDS" */
static int wanted(const struct run *run, struct MHD_Connection *conn, struct capture *k, struct err *err)
{
	int r;

	k->snaplen = SNAPLEN_DEFAULT;
	if ((r = capture_filter_parse(argument(conn, "filter"), &k->filter, err)) < 0 ||
	    (r = number(conn, "snaplen", SNAPLEN_MIN, PK_CAPTURE_SNAP, &k->snaplen, err)) < 0 ||
	    (r = number(conn, "count", 1, COUNT_MAX, &k->count, err)) < 0 ||
	    (r = number(conn, "duration", 1, DURATION_MAX_S, &k->duration_s, err)) < 0)
		return r;
	return names_exist(run, &k->filter, err);
}

static json_t *start_json(const struct run *run, const struct capture *k)
{
	json_t *interfaces = json_array();
	const struct packet_attach *at;
	size_t n = packet_attached(run->packet, &at);

	for (size_t i = 0; i < n; i++)
		(void)json_array_append_new(interfaces,
					    json_pack("{s:s, s:s}", "name", at[i].name, "hook", at[i].hook));
	return json_pack("{s:s, s:I, s:o}", "event", "start", "snaplen", (json_int_t)k->snaplen, "interfaces",
			 interfaces);
}

static unsigned int status_of(int r)
{
	switch (r) {
	case -EINVAL:
		return MHD_HTTP_BAD_REQUEST;
	case -ENOENT:
		return MHD_HTTP_NOT_FOUND;
	case -EBUSY:
		return MHD_HTTP_SERVICE_UNAVAILABLE;
	default:
		return MHD_HTTP_INTERNAL_SERVER_ERROR;
	}
}

enum MHD_Result control_get_capture(struct control *c, struct MHD_Connection *conn, struct request *req)
{
	const struct run *run = c->host.run;
	struct err err = {};
	struct capture *k;
	enum MHD_Result ret;
	int r;

	(void)req;
	if (!run || !run->packet)
		return control_packet_off(conn);
	k = new0(struct capture);
	if (!k)
		return MHD_NO;
	r = wanted(run, conn, k, &err);
	if (r >= 0)
		r = capture_start(c, k, &err);
	if (r < 0) {
		capture_filter_done(&k->filter);
		free(k);
		return control_error(conn, status_of(r), "%s", err.text);
	}
	ret = control_stream_reply(c, conn, &k->s, QUEUE_BYTES, on_done);
	if (ret == MHD_YES)
		(void)say(k, start_json(run, k), 0);
	return ret;
}
