// SPDX-License-Identifier: GPL-2.0-or-later
#include "lab/sidecar.h"

#include <errno.h>

#include "lab/haproxy.h"
#include "lab/nginx.h"
#include "lab/scene.h"
#include "lab/waggle.h"

#define USER "nobody"
#define PROXY "sidecar"
#define SETUP_MS 5000

static const char server_http[] = "	server {\n"
				  "		listen 80 backlog=4096;\n"
				  "		location / { return 200 \"the bee dances\\n\"; }\n"
				  "	}\n"
				  "	server {\n"
				  "		listen 81 backlog=4096;\n"
				  "		keepalive_timeout 0;\n"
				  "		location / { return 200 \"the bee dances\\n\"; }\n"
				  "	}\n";

static const char nat_rules[] = "table ip sidecar {\n"
				"	chain output {\n"
				"		type nat hook output priority -100;\n"
				"		ip daddr " SCENE_HTTP1 " meta skuid != " USER
				" tcp dport { 80, 81, %d, %d } redirect to :%d\n"
				"	}\n"
				"}\n";

static const char waggle_form[] = "redirect:\n"
				  "  - cgroup: %1$s\n"
				  "    to: 127.0.0.1:%2$d\n"
				  "    ports: [ 80, 81, %3$d, %8$d ]\n"
				  "    exclude-users: [ " USER " ]\n"
				  /* There are no services: nobody has to ask for them. */
				  "connect: { cgroups: [ %7$s/waggle ] }\n"
				  "accelerate:\n"
				  "  cgroups: [ %1$s ]\n"
				  "  trust: [ %4$s, %5$s, %6$s ]\n";

int sidecar_start(const struct lab *lab, struct sidecar *ret, struct err *err)
{
	static const char *const to_where_it_wanted[] = { "0.0.0.0:0", NULL };
	const struct haproxy_spec proxy = {
		.name = PROXY, .host = "client", .port = SIDECAR_PORT, .user = USER, .servers = to_where_it_wanted
	};
	const struct nginx_spec server = { "http1", "http1", server_http };
	int r = nginx_start(lab, &server, &ret->server, err);

	return r < 0 ? r : haproxy_start(lab, &proxy, &ret->proxy, err);
}

void sidecar_stop(struct sidecar *sidecar)
{
	(void)prog_stop(&sidecar->proxy, HAPROXY_STOP_MS);
	(void)prog_stop(&sidecar->server, NGINX_STOP_MS);
}

static int on_client(const struct lab *lab, const char *const *argv, const char *input, struct err *err)
{
	const struct prog_spec spec = {
		.argv = argv, .netns_fd = lab_netns(lab, "client"), .cgroup_fd = lab->waggle_fd, .input = input
	};

	return prog_run(&spec, SETUP_MS, err);
}

int sidecar_nat(const struct lab *lab, bool on, struct err *err)
{
	const char *const unload[] = { "nft", "delete", "table", "ip", "sidecar", NULL };
	const char *const load[] = { "nft", "-f", "-", NULL };
	/* Or the table of connections is full of those that have ended, and the measurement is of that. */
	const char *const brief[] = { "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_time_wait=1", NULL };
	char rules[512];
	int r;

	if (!on)
		return on_client(lab, unload, NULL, err);
	(void)snprintf(rules, sizeof(rules), nat_rules, SIDECAR_REDIS_PORT, SIDECAR_POSTGRES_PORT, SIDECAR_PORT);
	r = on_client(lab, load, rules, err);
	return r < 0 ? r : on_client(lab, brief, NULL, err);
}

int sidecar_waggle(const struct lab *lab, struct prog *ret, struct err *err)
{
	char wrk[4096], nginx[4096], haproxy[4096];
	_cleanup_free_ char *config = NULL;

	if (prog_find("wrk", wrk, sizeof(wrk)) < 0 || prog_find("nginx", nginx, sizeof(nginx)) < 0 ||
	    prog_find("haproxy", haproxy, sizeof(haproxy)) < 0)
		return err_set(err, -ENOENT, "wrk, nginx or haproxy is missing");
	if (asprintf(&config, waggle_form, lab->programs, SIDECAR_PORT, SIDECAR_REDIS_PORT, wrk, nginx, haproxy,
		     lab->cgroup, SIDECAR_POSTGRES_PORT) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return waggle_run_start(lab, config, ret, err);
}

int sidecar_taken(const struct lab *lab, uint64_t *ret, struct err *err)
{
	return haproxy_taken(lab, PROXY, ret, err);
}
