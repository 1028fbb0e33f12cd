// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>

#include "abi/capture.h"
#include "base/clock.h"
#include "cmd/cmd.h"
#include "ctl/capture.h"
#include "ctl/client.h"
#include "model/capture_filter.h"

#define SNAPLEN_DEFAULT 2048
#define SNAPLEN_MIN 64
#define COUNT_MAX (1ULL << 40)
#define DURATION_MAX_S (365ULL * 86400)

struct capture_args {
	const char *write;
	uint64_t count, duration, snaplen;
	bool json;
};

static const struct opt capture_opts[] = {
	{ "write", OPT_STRING, "FILE", "into this pcapng file; '-': to standard output (-w)",
	  offsetof(struct capture_args, write), 0, 0 },
	{ "count", OPT_U64, "N", "end after this many packets (-c)", offsetof(struct capture_args, count), 1,
	  COUNT_MAX },
	{ "duration", OPT_U64, "SECONDS", "end after so long", offsetof(struct capture_args, duration), 1,
	  DURATION_MAX_S },
	{ "snaplen", OPT_U64, "BYTES", "of each packet at most (-s; default: 2048)",
	  offsetof(struct capture_args, snaplen), SNAPLEN_MIN, PK_CAPTURE_SNAP },
	{ "json", OPT_FLAG, NULL, "as JSON, one packet a line", offsetof(struct capture_args, json), 0, 0 },
	{ 0 },
};

struct capture {
	const struct capture_args *args;
	struct ctl_capture shown;
	FILE *file; /* of -w, once the daemon captures */
	bool has_begun;
	struct err err;
	int r;
};

static bool to_stdout(const struct capture_args *args)
{
	return args->write && streq(args->write, "-");
}

/* Packets are nobody else's to read. */
static int file_open(struct capture *c, uint32_t snaplen)
{
	int fd = to_stdout(c->args) ? dup(STDOUT_FILENO) :
				      open(c->args->write, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	c->file = fd < 0 ? NULL : fdopen(fd, "w");
	if (!c->file)
		return err_set(&c->err, -errno, "cannot write '%s': %s", c->args->write, strerror(errno));
	return pcapng_begin(&c->shown.pcapng, c->file, snaplen);
}

static int capture_start(struct capture *c, json_t *event)
{
	const char *word = json_string_value(json_object_get(event, "event"));
	int r = 0;

	if (!word || !streq(word, "start"))
		return err_set(&c->err, -EPROTO, "what answers is not a waggle of this version");
	if (c->args->write)
		r = file_open(c, (uint32_t)json_integer_value(json_object_get(event, "snaplen")));
	if (r >= 0) {
		(void)fputs("waggle: ", stderr);
		ctl_capture_tell_start(event, stderr);
	}
	return r;
}

/* What came at once goes out at once, and must not wait for what comes next. */
static int capture_line(const char *line, size_t n, void *data)
{
	struct capture *c = data;
	json_t *event;
	FILE *out = c->file ? c->file : stdout;

	if (!line) {
		if (c->r >= 0 && fflush(out))
			c->r = err_set(&c->err, -EIO, "cannot write: %s", strerror(errno));
		return c->r < 0;
	}
	event = json_loadb(line, n, 0, NULL);
	c->r = c->has_begun ? ctl_capture_event(&c->shown, event, &c->err) : capture_start(c, event);
	c->has_begun = true;
	json_decref(event);
	if (c->args->json)
		(void)puts(line);
	if (c->r >= 0 && (c->shown.has_ended ? fflush(out) : ferror(out)))
		c->r = err_set(&c->err, -EIO, "cannot write: %s", strerror(errno));
	return c->r < 0 || c->shown.has_ended;
}

static void add(FILE *f, char *before, const char *name, uint64_t value)
{
	if (value)
		(void)fprintf(f, "%c%s=%llu", *before, name, (unsigned long long)value);
	*before = value ? '&' : *before;
}

static char *capture_path(const struct capture_args *args, const char *filter)
{
	_cleanup_free_ char *text = ctl_escape(filter);
	char *path = NULL, before = '?';
	size_t n = 0;
	FILE *f = open_memstream(&path, &n);

	if (!f)
		return NULL;
	(void)fputs("/v1/capture", f);
	add(f, &before, "snaplen", args->snaplen);
	add(f, &before, "count", args->count);
	add(f, &before, "duration", args->duration);
	(void)fprintf(f, "%cfilter=%s", before, text ? text : "");
	if (fclose(f) || !text) {
		free(path);
		return NULL;
	}
	return path;
}

/* What is there is whole, however the capture has ended. */
static int capture_finish(struct capture *c)
{
	if (c->file) {
		pcapng_end(&c->shown.pcapng, clock_ns(CLOCK_REALTIME), c->shown.n_lost);
		pcapng_done(&c->shown.pcapng);
		if (fclose(c->file) && c->r >= 0)
			c->r = err_set(&c->err, -errno, "cannot write '%s': %s", c->args->write, strerror(errno));
	}
	if (c->r < 0)
		return cmd_fail(EXIT_FAILED, "capture: %s", c->err.text);
	if (c->has_begun)
		(void)fprintf(stderr, "waggle: %llu packet%s captured, %llu lost\n",
			      (unsigned long long)c->shown.n_packets, c->shown.n_packets == 1 ? "" : "s",
			      (unsigned long long)c->shown.n_lost);
	return EXIT_DONE;
}

static int capture_run(const struct capture_args *args, const char *filter)
{
	_cleanup_free_ char *path = capture_path(args, filter);
	struct capture c = { .args = args, .shown.out = args->json ? NULL : stdout };
	struct err err = {};

	if (!path)
		return cmd_fail(EXIT_FAILED, "out of memory");
	if (ctl_lines(path, capture_line, &c, &err) < 0) {
		pcapng_done(&c.shown.pcapng);
		return cmd_fail(EXIT_FAILED, "capture: %s", err.text);
	}
	return capture_finish(&c);
}

/* The operands are one text, as tcpdump has it. */
static char *joined(int n, char **words)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	for (int i = 0; f && i < n; i++)
		(void)fprintf(f, "%s%s", i ? " " : "", words[i]);
	if (!f || fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}

static int capture_check(const struct capture_args *args, const char *filter)
{
	_cleanup_(capture_filter_done) struct capture_filter parsed = {};
	struct err err = {};

	if (args->json && args->write)
		return cmd_fail(EXIT_USAGE, "capture: --json shows packets, --write writes them: choose one");
	if (to_stdout(args) && isatty(STDOUT_FILENO))
		return cmd_fail(EXIT_USAGE,
				"capture: '--write -' is for a pipe, as in 'waggle capture -w - | tcpdump -r -'");
	/* What the daemon would refuse is bad usage. */
	if (capture_filter_parse(filter, &parsed, &err) < 0)
		return cmd_fail(EXIT_USAGE, "capture: %s", err.text);
	return EXIT_DONE;
}

static int capture_fn(int argc, char **argv)
{
	struct capture_args args = { .snaplen = SNAPLEN_DEFAULT };
	int first, r = opt_parse(&cmd_capture, argc, argv, &args, &first), code;
	_cleanup_free_ char *filter = NULL;

	if (r < 0)
		return OPT_EXIT(r);
	filter = joined(argc - first, argv + first);
	if (!filter)
		return cmd_fail(EXIT_FAILED, "out of memory");
	code = capture_check(&args, filter);
	return code ? code : capture_run(&args, filter);
}

const struct cmd cmd_capture = {
	.name = "capture",
	.args = "[CONDITION...]",
	.help = "see packets of services come in and go out, and why",
	.opts = capture_opts,
	.letters = "wcs",
	.max = -1,
	.fn = capture_fn,
};
