// SPDX-License-Identifier: GPL-2.0-or-later
#include "lab/haproxy.h"

#include <errno.h>
#include <time.h>

#define START_MS 5000
#define STEP_MS 5

static const char config_form[] = "global\n"
				  "	nbthread 1\n"
				  "	maxconn 4096\n"
				  "	pidfile %1$s/%2$s.pid\n"
				  "	user %4$s\n"
				  "defaults\n"
				  "	mode tcp\n"
				  "	timeout connect 5s\n"
				  "	timeout client 1h\n"
				  "	timeout server 1h\n"
				  "listen %2$s\n"
				  "	bind :%3$u backlog 4096\n"
				  "	balance roundrobin\n";

static int write_config(const struct lab *lab, const struct haproxy_spec *spec, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	char name[64];

	if (asprintf(&text, config_form, lab->dir, spec->name, spec->port, spec->user ? spec->user : "root") < 0)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; spec->servers[i]; i++) {
		char *more;

		if (asprintf(&more, "%s	server s%zu %s\n", text, i, spec->servers[i]) < 0)
			return err_set(err, -ENOMEM, "out of memory");
		free(text);
		text = more;
	}
	(void)snprintf(name, sizeof(name), "%s.conf", spec->name);
	return lab_write(lab, name, text, err);
}

/* haproxy's master (-W) writes the pid file when its worker has bound its sockets. */
static int await_listening(const struct lab *lab, const struct haproxy_spec *spec, struct prog *prog, struct err *err)
{
	const struct timespec step = { .tv_nsec = STEP_MS * 1000000L };
	char pid_file[PATH_MAX], log[64], last[256];

	(void)snprintf(pid_file, sizeof(pid_file), "%s/%s.pid", lab->dir, spec->name);
	for (int waited = 0; waited < START_MS && prog_runs(prog); waited += STEP_MS) {
		if (access(pid_file, F_OK) == 0)
			return 0;
		(void)nanosleep(&step, NULL);
	}
	(void)prog_stop(prog, HAPROXY_STOP_MS);
	(void)snprintf(log, sizeof(log), "%s.log", spec->name);
	lab_last_line(lab, log, last, sizeof(last));
	return err_set(err, -EIO, "haproxy on '%s' does not come up: it says: %s", spec->host,
		       *last ? last : "nothing");
}

int haproxy_start(const struct lab *lab, const struct haproxy_spec *spec, struct prog *ret, struct err *err)
{
	char conf[PATH_MAX], log[PATH_MAX], pid_file[PATH_MAX];
	const char *const argv[] = { "haproxy", "-W", "-q", "-f", conf, NULL };
	struct prog_spec how = {
		.argv = argv,
		.netns_fd = lab_netns(lab, spec->host),
		.cgroup_fd = lab->programs_fd,
		.log = log,
	};
	int r;

	(void)snprintf(conf, sizeof(conf), "%s/%s.conf", lab->dir, spec->name);
	(void)snprintf(log, sizeof(log), "%s/%s.log", lab->dir, spec->name);
	/* One that was killed has left its own. */
	(void)snprintf(pid_file, sizeof(pid_file), "%s/%s.pid", lab->dir, spec->name);
	(void)unlink(pid_file);
	r = write_config(lab, spec, err);
	if (r >= 0)
		r = prog_start(&how, ret, err);
	return r < 0 ? r : await_listening(lab, spec, ret, err);
}
