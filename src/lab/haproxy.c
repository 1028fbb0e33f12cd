// SPDX-License-Identifier: GPL-2.0-or-later
#include "lab/haproxy.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define START_MS 5000
#define STEP_MS 5
#define ANSWER_S 5

static const char config_form[] = "global\n"
				  "	nbthread 1\n"
				  "	maxconn 4096\n"
				  "	pidfile %1$s/%2$s.pid\n"
				  "	user %4$s\n"
				  "	stats socket %1$s/%2$s.stats\n"
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

/* All that it answers to a command on its socket, as text. */
static int ask(const char *path, const char *command, char *ret, size_t size)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct timeval limit = { .tv_sec = ANSWER_S };
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t len = 0;
	ssize_t n;

	if (strlen(path) >= sizeof(to.sun_path))
		return -ENAMETOOLONG;
	memcpy(to.sun_path, path, strlen(path));
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
		return -errno;
	if (send(fd, command, strlen(command), MSG_NOSIGNAL) != (ssize_t)strlen(command))
		return -EIO;
	while (len < size - 1 && (n = recv(fd, ret + len, size - 1 - len, 0)) != 0) {
		if (n < 0)
			return -errno;
		len += (size_t)n;
	}
	ret[len] = '\0';
	return 0;
}

/* CSV: the eighth field of the frontend's line, 'stot', is what it has taken. */
int haproxy_taken(const struct lab *lab, const char *name, uint64_t *ret, struct err *err)
{
	char path[PATH_MAX], line[128], text[16384], *at;
	int r;

	(void)snprintf(path, sizeof(path), "%s/%s.stats", lab->dir, name);
	(void)snprintf(line, sizeof(line), "\n%s,FRONTEND,", name);
	r = ask(path, "show stat\n", text, sizeof(text));
	if (r < 0)
		return err_set(err, r, "haproxy does not say how many connections it has taken: %s", strerror(-r));
	at = strstr(text, line);
	at = at ? at + strlen(line) : NULL;
	for (int field = 3; at && field < 8; field++) {
		at = strchr(at, ',');
		at = at ? at + 1 : NULL;
	}
	if (!at || sscanf(at, "%" SCNu64, ret) != 1)
		return err_set(err, -EPROTO, "haproxy does not say how many connections it has taken");
	return 0;
}
