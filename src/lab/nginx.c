// SPDX-License-Identifier: GPL-2.0-or-later
#include "lab/nginx.h"

#include <errno.h>
#include <time.h>

#define START_MS 5000
#define STEP_MS 5

/*
 * Workers stay root: the private directory is closed to everybody else. Requests per connection are not limited, or
 * every thousandth would open a new one. Temporary files are off, so that a balancer never waits for a disk.
 */
static const char config_form[] = "daemon off;\n"
				  "user root;\n"
				  "worker_processes 1;\n"
				  "worker_rlimit_nofile 65536;\n"
				  "pid %1$s/%2$s.pid;\n"
				  "lock_file %1$s/%2$s.lock;\n"
				  "error_log %1$s/%2$s.log warn;\n"
				  "events { worker_connections 8192; }\n"
				  "http {\n"
				  "	access_log off;\n"
				  "	server_tokens off;\n"
				  "	sendfile on;\n"
				  "	keepalive_requests 1000000000;\n"
				  "	keepalive_timeout 1h;\n"
				  "	proxy_max_temp_file_size 0;\n"
				  "	client_body_temp_path %1$s/%2$s.tmp/body;\n"
				  "	proxy_temp_path %1$s/%2$s.tmp/proxy;\n"
				  "	fastcgi_temp_path %1$s/%2$s.tmp/fastcgi;\n"
				  "	uwsgi_temp_path %1$s/%2$s.tmp/uwsgi;\n"
				  "	scgi_temp_path %1$s/%2$s.tmp/scgi;\n"
				  "%3$s"
				  "}\n";

static void sleep_step(void)
{
	struct timespec t = { .tv_nsec = STEP_MS * 1000000L };

	(void)nanosleep(&t, NULL);
}

/* nginx writes its pid file when it has opened its sockets. */
static int await_listening(const struct lab *lab, const struct nginx_spec *spec, struct prog *prog, struct err *err)
{
	char pid_file[PATH_MAX], log[64], last[256];

	(void)snprintf(pid_file, sizeof(pid_file), "%s/%s.pid", lab->dir, spec->name);
	for (int waited = 0; waited < START_MS && prog_runs(prog); waited += STEP_MS) {
		if (access(pid_file, F_OK) == 0)
			return 0;
		sleep_step();
	}
	(void)prog_stop(prog, NGINX_STOP_MS);
	(void)snprintf(log, sizeof(log), "%s.log", spec->name);
	lab_last_line(lab, log, last, sizeof(last));
	return err_set(err, -EIO, "nginx on '%s' does not come up: it says: %s", spec->host, *last ? last : "nothing");
}

static int write_config(const struct lab *lab, const struct nginx_spec *spec, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	char name[64];

	if (asprintf(&text, config_form, lab->dir, spec->name, spec->http) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	(void)snprintf(name, sizeof(name), "%s.conf", spec->name);
	return lab_write(lab, name, text, err);
}

int nginx_start(const struct lab *lab, const struct nginx_spec *spec, struct prog *ret, struct err *err)
{
	char conf[PATH_MAX], log[PATH_MAX], pid_file[PATH_MAX], sub[64];
	const char *const argv[] = { "nginx", "-e", log, "-p", lab->dir, "-c", conf, NULL };
	struct prog_spec how = {
		.argv = argv,
		.netns_fd = lab_netns(lab, spec->host),
		.cgroup_fd = lab->programs_fd,
		.log = log,
	};
	int r;

	(void)snprintf(conf, sizeof(conf), "%s/%s.conf", lab->dir, spec->name);
	(void)snprintf(log, sizeof(log), "%s/%s.log", lab->dir, spec->name);
	(void)snprintf(sub, sizeof(sub), "%s.tmp", spec->name);
	/* One that was killed has left its own. */
	(void)snprintf(pid_file, sizeof(pid_file), "%s/%s.pid", lab->dir, spec->name);
	(void)unlink(pid_file);
	r = lab_mkdir(lab, sub, err);
	if (r >= 0)
		r = write_config(lab, spec, err);
	if (r >= 0)
		r = prog_start(&how, ret, err);
	return r < 0 ? r : await_listening(lab, spec, ret, err);
}
