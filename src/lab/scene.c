// SPDX-License-Identifier: GPL-2.0-or-later
#include "lab/scene.h"

#include <errno.h>

#include "lab/waggle.h"

const struct lab_host scene_hosts[4] = {
	{ "client", SCENE_CLIENT },
	{ "http1", SCENE_HTTP1 },
	{ "http2", SCENE_HTTP2 },
	{ "balancer", SCENE_BALANCER },
};

/* %1$s is the private directory. */
static const char backend_form[] =
	"	server {\n"
	"		listen 80 backlog=4096;\n"
	"		location = / { return 200 \"the bee dances\\n\"; }\n"
	"		location = /close { keepalive_timeout 0; return 200 \"the bee dances\\n\"; }\n"
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

static int on_balancer(const struct lab *lab, const char *const *argv, const char *input, struct err *err)
{
	const struct prog_spec spec = {
		.argv = argv,
		.netns_fd = lab_netns(lab, "balancer"),
		.cgroup_fd = -1,
		.input = input,
	};

	return prog_run(&spec, SETUP_MS, err);
}

int scene_forward(const struct lab *lab, struct err *err)
{
	const char *const argv[] = { "sysctl", "-qw", "net.ipv4.ip_forward=1", NULL };

	return on_balancer(lab, argv, NULL, err);
}

int scene_nat(const struct lab *lab, bool on, struct err *err)
{
	const char *const load[] = { "nft", "-f", "-", NULL };
	const char *const unload[] = { "nft", "delete", "table", "ip", "scene", NULL };
	int r = on ? scene_forward(lab, err) : 0;

	return r < 0 ? r : on_balancer(lab, on ? load : unload, on ? nat_rules : NULL, err);
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

static void put_list(FILE *f, const char *const *v)
{
	(void)fputs("[ ", f);
	for (size_t i = 0; v[i]; i++)
		(void)fprintf(f, "%s%s", i ? ", " : "", v[i]);
	(void)fputs(" ]", f);
}

static void put_config(FILE *f, const struct lab *lab, const struct scene_waggle *how)
{
	if (how->balance) {
		(void)fprintf(f,
			      "services:\n"
			      "  - name: web\n"
			      "    listen: %s\n"
			      "    backends: [ " SCENE_HTTP1 ":80, " SCENE_HTTP2 ":80 ]\n",
			      how->packet_hook ? SCENE_BALANCER ":84" : SCENE_SERVICE ":80");
	}
	if (how->packet_hook)
		(void)fprintf(f, "packet: { interfaces: [ { name: eth0, hook: %s } ] }\n", how->packet_hook);
	else
		/* Where there is no service, nobody has to ask for one. */
		(void)fprintf(f, "connect: { cgroups: [ %s%s ] }\n", how->balance ? lab->programs : lab->cgroup,
			      how->balance ? "" : "/waggle");
	if (how->join) {
		(void)fprintf(f, "accelerate:\n  cgroups: [ %s ]\n", lab->programs);
		if (how->trust) {
			(void)fputs("  trust: ", f);
			put_list(f, how->trust);
			(void)fputc('\n', f);
		}
	}
	if (how->more)
		(void)fputs(how->more, f);
}

int scene_waggle(const struct lab *lab, const struct scene_waggle *how, struct prog *ret, struct err *err)
{
	_cleanup_free_ char *config = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&config, &size);

	if (!f)
		return err_set(err, -ENOMEM, "out of memory");
	put_config(f, lab, how);
	if (fclose(f) != 0)
		return err_set(err, -ENOMEM, "out of memory");
	return waggle_run_start_on(lab, how->packet_hook ? "balancer" : how->host, config, ret, err);
}
