// SPDX-License-Identifier: GPL-2.0-or-later
#include "lab/scene.h"

#include <errno.h>

const struct lab_host scene_hosts[4] = {
	{ "client", SCENE_CLIENT },
	{ "http1", SCENE_HTTP1 },
	{ "http2", SCENE_HTTP2 },
	{ "balancer", SCENE_BALANCER },
};

/* %1$s is the private directory. */
static const char backend_form[] = "	server {\n"
				   "		listen 80 backlog=4096;\n"
				   "		location = / { return 200 \"the bee dances\\n\"; }\n"
				   "		root %1$s/files;\n"
				   "	}\n";

static const char balancer_http[] = "	upstream each {\n"
				    "		server " SCENE_HTTP1 ";\n"
				    "		server " SCENE_HTTP2 ";\n"
				    "	}\n"
				    "	upstream kept {\n"
				    "		server " SCENE_HTTP1 ";\n"
				    "		server " SCENE_HTTP2 ";\n"
				    "		keepalive 256;\n"
				    "		keepalive_requests 1000000000;\n"
				    "	}\n"
				    "	server {\n"
				    "		listen 80 backlog=4096;\n"
				    "		location / { proxy_pass http://each; }\n"
				    "	}\n"
				    "	server {\n"
				    "		listen 81 backlog=4096;\n"
				    "		location / {\n"
				    "			proxy_pass http://kept;\n"
				    "			proxy_http_version 1.1;\n"
				    "			proxy_set_header Connection \"\";\n"
				    "		}\n"
				    "	}\n";

#define SETUP_MS 5000

static const char nat_rules[] = "table ip scene {\n"
				"	chain prerouting {\n"
				"		type nat hook prerouting priority dstnat;\n"
				"		tcp dport 82 dnat to numgen inc mod 2 map { 0 : " SCENE_HTTP1
				", 1 : " SCENE_HTTP2 " } : 80\n"
				"	}\n"
				"	chain postrouting {\n"
				"		type nat hook postrouting priority srcnat;\n"
				"		ip daddr { " SCENE_HTTP1 ", " SCENE_HTTP2 " } masquerade\n"
				"	}\n"
				"}\n";

static int scene_nat(const struct lab *lab, struct err *err)
{
	const char *const forward[] = { "sysctl", "-qw", "net.ipv4.ip_forward=1", NULL };
	const char *const rules[] = { "nft", "-f", "-", NULL };
	struct prog_spec spec = {
		.argv = forward,
		.netns_fd = lab_netns(lab, "balancer"),
		.cgroup_fd = -1,
	};
	int r = prog_run(&spec, SETUP_MS, err);

	if (r < 0)
		return r;
	spec.argv = rules;
	spec.input = nat_rules;
	return prog_run(&spec, SETUP_MS, err);
}

static int write_file(const struct lab *lab, const char *name, size_t bytes, struct err *err)
{
	_cleanup_free_ char *body = malloc(bytes + 1);

	if (!body)
		return err_set(err, -ENOMEM, "out of memory");
	memset(body, 'w', bytes);
	body[bytes] = '\0';
	return lab_write(lab, name, body, err);
}

int scene_start(const struct lab *lab, struct scene *ret, struct err *err)
{
	struct scene scene = { .http1.out = -1, .http2.out = -1, .balancer.out = -1, .haproxy.out = -1 };
	_cleanup_free_ char *http = NULL;
	struct nginx_spec http1 = { .name = "http1", .host = "http1" };
	struct nginx_spec http2 = { .name = "http2", .host = "http2" };
	int r;

	if (asprintf(&http, backend_form, lab->dir) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	http1.http = http2.http = http;
	r = scene_nat(lab, err);
	if (r >= 0)
		r = lab_mkdir(lab, "files", err);
	if (r >= 0)
		r = write_file(lab, "files/16k", SCENE_16K, err);
	if (r >= 0)
		r = write_file(lab, "files/1m", SCENE_1M, err);
	if (r >= 0)
		r = nginx_start(lab, &http1, &scene.http1, err);
	if (r >= 0)
		r = nginx_start(lab, &http2, &scene.http2, err);
	if (r < 0) {
		scene_stop(&scene);
		return r;
	}
	*ret = scene;
	return 0;
}

int scene_balancer(const struct lab *lab, struct scene *scene, struct err *err)
{
	const struct nginx_spec spec = { .name = "balancer", .host = "balancer", .http = balancer_http };

	(void)prog_stop(&scene->balancer, NGINX_STOP_MS);
	return nginx_start(lab, &spec, &scene->balancer, err);
}

int scene_haproxy(const struct lab *lab, struct scene *scene, struct err *err)
{
	static const char *const servers[] = { SCENE_HTTP1 ":80", SCENE_HTTP2 ":80", NULL };
	const struct haproxy_spec spec = { .name = "haproxy", .host = "balancer", .port = 83, .servers = servers };

	(void)prog_stop(&scene->haproxy, HAPROXY_STOP_MS);
	return haproxy_start(lab, &spec, &scene->haproxy, err);
}

void scene_stop(struct scene *scene)
{
	(void)prog_stop(&scene->haproxy, HAPROXY_STOP_MS);
	(void)prog_stop(&scene->balancer, NGINX_STOP_MS);
	(void)prog_stop(&scene->http1, NGINX_STOP_MS);
	(void)prog_stop(&scene->http2, NGINX_STOP_MS);
}
