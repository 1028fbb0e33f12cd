// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * GET /v1/status, /v1/executables and /v1/sockets. The table of sockets is a snapshot, taken in one pass over the
 * kernel's and one over /proc; the text is made while the client reads it.
 */
#include <errno.h>

#include "base/clock.h"
#include "daemon/control_priv.h"
#include "daemon/run.h"
#include "model/wire.h"
#include "model/wire_pairs.h"
#include "sys/cgroup.h"
#include "sys/proc.h"

static const char *const class_words[] = {
	[ACCEL_FULL] = "full",
	[ACCEL_LIMITED] = "limited",
	[ACCEL_REFUSED] = "refused",
};

static enum MHD_Result reply_errno(struct MHD_Connection *conn, int r, const char *what)
{
	return control_error(conn, MHD_HTTP_INTERNAL_SERVER_ERROR, "%s: %s", what, strerror(-r));
}

static enum MHD_Result reply_off(struct MHD_Connection *conn)
{
	return control_error(conn, MHD_HTTP_CONFLICT,
			     "the accelerator is off: write 'accelerate: {}' into the configuration and start again");
}

/*
 * Counting walks the kernel's whole table of connections, those in TIME_WAIT too, which takes milliseconds where many connections
 * are short: however often clients ask, no more than a two-hundredth of a processor goes into that.
 */
#define COUNT_SHARE 200

static uint64_t now_us(void)
{
	return clock_ns(CLOCK_MONOTONIC) / 1000;
}

static int count_sockets(struct control *c)
{
	_cleanup_free_ struct ac_sock_dump *socks = NULL;
	uint64_t begin = now_us(), end;
	size_t n = 0;
	int r;

	if (begin < c->count_due_us || !c->host.accel)
		return 0;
	r = accel_sockets(c->host.accel, &socks, &n);
	if (r < 0)
		return r;
	c->n_socks = n;
	c->n_joined = 0;
	memset(c->n_why, 0, sizeof(c->n_why));
	for (size_t i = 0; i < n; i++) {
		c->n_joined += socks[i].in_map;
		if (!socks[i].in_map && socks[i].sock.why < _AC_WHY_MAX)
			c->n_why[socks[i].sock.why]++;
	}
	end = now_us();
	c->count_due_us = end + (end - begin) * COUNT_SHARE;
	return 0;
}

int control_status(struct control *c, json_t **ret)
{
	const struct accel_probe *probe = c->host.accel ? accel_probed(c->host.accel) : NULL;
	struct wire_status s = {
		.version = WAGGLE_VERSION,
		.class = probe ? class_words[probe->class] : "off",
		.reason = probe ? probe->reason : "",
		.pid = getpid(),
		.uptime_s = (clock_ms() - c->start_ms) / 1000,
		.cgroup = c->host.accel ? accel_cgroups(c->host.accel) : "/",
	};
	size_t left = 0, asleep = 0;
	json_t *body;
	int r;

	r = c->host.accel ? accel_stats(c->host.accel, s.stats) : 0;
	if (r >= 0)
		r = count_sockets(c);
	if (r < 0)
		return r;
	for (size_t i = 0; i < _AC_WHY_MAX; i++)
		s.why[i] = c->n_why[i];
	s.joined = c->n_joined;
	s.watched = c->n_socks - c->n_joined;
	s.leaving = c->host.leaving(c->host.data, &left, &asleep);
	s.left = left;
	s.asleep = asleep;
	body = wire_status(&s);
	*ret = c->host.run && body ? run_status(c->host.run, body) : body;
	return *ret ? 0 : -ENOMEM;
}

enum MHD_Result control_get_status(struct control *c, struct MHD_Connection *conn, struct request *req)
{
	json_t *body = NULL;
	int r = control_status(c, &body);

	(void)req;
	return r < 0 ? reply_errno(conn, r, "cannot read the counters") : control_reply(conn, MHD_HTTP_OK, body);
}

enum MHD_Result control_get_executables(struct control *c, struct MHD_Connection *conn, struct request *req)
{
	struct accel_exe *exes = NULL;
	json_t *list;
	size_t n = 0;
	int r;

	(void)req;
	if (!c->host.accel)
		return reply_off(conn);
	list = json_array();
	r = accel_exes(c->host.accel, &exes, &n);
	if (r < 0) {
		json_decref(list);
		return reply_errno(conn, r, "cannot read what was learned");
	}
	for (size_t i = 0; i < n; i++) {
		struct wire_exe e = { .key = exes[i].key, .exe = exes[i].exe, .path = exes[i].path };

		(void)json_array_append_new(list, wire_exe(&e));
	}
	accel_exes_free(exes, n);
	return control_reply(conn, MHD_HTTP_OK, json_pack("{s:o}", "executables", list));
}

struct cgroup_name {
	uint64_t id;
	char *path;
};

/* A reply of /v1/sockets while it is written. */
struct dump {
	struct control *c;
	struct ac_sock_dump *socks;
	struct proc_sockets procs;
	struct cgroup_name *cgroups; /* sorted by id */
	size_t n_cgroups;
	struct wire_pairs pairs;
	struct wire_lookup lookup;
	struct wire_pairs_text text;
};

static int compare_cgroups(const void *a, const void *b)
{
	const struct cgroup_name *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

/* There are far fewer cgroups than sockets: each is looked up once. */
static int dump_name_cgroups(struct dump *d, size_t n_socks)
{
	size_t n = 0;

	d->cgroups = calloc(n_socks + 1, sizeof(*d->cgroups));
	if (!d->cgroups)
		return -ENOMEM;
	for (size_t i = 0; i < n_socks; i++)
		d->cgroups[i].id = d->socks[i].cgroup;
	qsort(d->cgroups, n_socks, sizeof(*d->cgroups), compare_cgroups);
	for (size_t i = 0; i < n_socks; i++)
		if (!n || d->cgroups[n - 1].id != d->cgroups[i].id)
			d->cgroups[n++].id = d->cgroups[i].id;
	for (size_t i = 0; i < n; i++)
		d->cgroups[i].path = cgroup_path(d->cgroups[i].id);
	d->n_cgroups = n;
	return 0;
}

static const char *dump_cgroup(void *data, uint64_t id)
{
	const struct cgroup_name key = { .id = id };
	struct dump *d = data;
	const struct cgroup_name *found = bsearch(&key, d->cgroups, d->n_cgroups, sizeof(key), compare_cgroups);

	return found && found->path ? found->path : "?";
}

static bool dump_process(void *data, uint64_t inode, int64_t *ret_pid, const char **ret_comm)
{
	struct dump *d = data;
	const struct proc_socket *p = proc_sockets_find(&d->procs, inode);

	if (!p)
		return false;
	*ret_pid = p->pid;
	*ret_comm = p->comm;
	return true;
}

static void dump_free(void *data)
{
	struct dump *d = data;

	if (!d)
		return;
	d->c->n_dumps--;
	wire_pairs_text_done(&d->text);
	wire_pairs_done(&d->pairs);
	for (size_t i = 0; i < d->n_cgroups; i++)
		free(d->cgroups[i].path);
	free(d->cgroups);
	proc_sockets_done(&d->procs);
	free(d->socks);
	free(d);
}

static void dump_freep(struct dump **d)
{
	dump_free(*d);
}

static int dump_take(struct control *c, struct dump **ret)
{
	_cleanup_(dump_freep) struct dump *d = new0(struct dump);
	size_t n;
	int r;

	if (!d)
		return -ENOMEM;
	d->c = c;
	c->n_dumps++;
	if ((r = accel_sockets(c->host.accel, &d->socks, &n)) < 0 || (r = proc_sockets_read(&d->procs)) < 0 ||
	    (r = dump_name_cgroups(d, n)) < 0 || (r = wire_pairs_make(d->socks, n, &d->pairs)) < 0)
		return r;
	d->lookup = (struct wire_lookup){ .process = dump_process, .cgroup = dump_cgroup, .data = d };
	d->text = (struct wire_pairs_text){ .pairs = &d->pairs, .lookup = &d->lookup };
	*ret = TAKE_PTR(d);
	return 0;
}

static int dump_next(void *data, const char **ret, size_t *ret_n)
{
	struct dump *d = data;

	return wire_pairs_text_next(&d->text, ret, ret_n);
}

enum MHD_Result control_get_sockets(struct control *c, struct MHD_Connection *conn, struct request *req)
{
	struct dump *d = NULL;
	int r;

	(void)req;
	if (!c->host.accel)
		return reply_off(conn);
	if (c->n_dumps >= CONTROL_DUMPS_MAX)
		return control_error(conn, MHD_HTTP_SERVICE_UNAVAILABLE,
				     "%d clients read the sockets already: try again", CONTROL_DUMPS_MAX);
	r = dump_take(c, &d);
	if (r < 0)
		return reply_errno(conn, r, "cannot read the sockets");
	return control_reply_pieces(conn, dump_next, dump_free, d);
}
