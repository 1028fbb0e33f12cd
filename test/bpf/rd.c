// SPDX-License-Identifier: GPL-2.0-or-later
#include "rd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include "base/log.h"
#include "model/addr.h"
#include "sys/bpf.h"
#include "sys/cgroup.h"

struct rd_fx rd;

static char top[512]; /* of the test, in the file system */
static char below[512];

static void find_top(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/cgroup", "re");
	_cleanup_free_ char *root = NULL;
	char line[512];

	assert_non_null(f);
	assert_int_equal(cgroup_root(&root, NULL), 0);
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, "0::", 3))
			continue;
		line[strcspn(line, "\n")] = '\0';
		(void)snprintf(top, sizeof(top), "%s%s", root, line + 3);
		(void)snprintf(below, sizeof(below), "%s", line + 3);
	}
	assert_true(top[0]);
}

char *rd_group_path(const char *name)
{
	char *path;

	assert_true(asprintf(&path, "%s%s%s", below, *name ? "/" : "", name) > 0);
	return path;
}

static void group_dir(const char *name, char *dir, size_t n)
{
	assert_true(snprintf(dir, n, "%s/%s", top, name) < (int)n);
}

void rd_group_make(const char *name)
{
	char dir[1024];

	group_dir(name, dir, sizeof(dir));
	assert_int_equal(mkdir(dir, 0755), 0);
}

void rd_group_remove(const char *name)
{
	char dir[1024];

	group_dir(name, dir, sizeof(dir));
	for (int tries = 0; rmdir(dir) < 0; tries++) {
		assert_true(tries < 1000);
		(void)usleep(10000);
	}
}

void rd_enter(const char *name)
{
	char path[1100], dir[1024], pid[16];
	_cleanup_close_ int fd = -1;

	group_dir(name, dir, sizeof(dir));
	(void)snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	(void)snprintf(pid, sizeof(pid), "%d", getpid());
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, pid, strlen(pid)), strlen(pid));
}

/* Once a program, for loading is what takes time on emulated machines. */
static struct redirect *opened;

static void rd_open(void)
{
	_cleanup_free_ char *everywhere = rd_group_path("");
	struct err err = {};

	if (redirect_open(&(struct redirect_opts){ .cgroup = everywhere }, &opened, &err) < 0)
		fail_msg("%s", err.text);
}

int rd_away(void **state)
{
	bpf_sys_init();
	if (getenv("WAGGLE_DEBUG"))
		log_set_max(LOG_LEVEL_DEBUG);
	if (fx_away(state) < 0)
		return -1;
	find_top();
	rd_group_make(RD_APP);
	rd_group_make(RD_PROXY_GROUP);
	rd_open();
	return 0;
}

int rd_home(void **state)
{
	opened = redirect_close(opened);
	rd_enter("");
	rd_group_remove(RD_APP);
	rd_group_remove(RD_PROXY_GROUP);
	return fx_home(state);
}

struct lb_addr rd_addr(const char *text)
{
	struct lb_addr a;

	assert_int_equal(addr_parse(text, &a, NULL), 0);
	return a;
}

struct config_cidr rd_cidr(const char *text)
{
	struct config_cidr c;

	assert_int_equal(addr_parse_cidr(text, &c.addr, &c.prefix, NULL), 0);
	return c;
}

void rd_apply(void)
{
	struct err err = {};

	if (redirect_apply(rd.redirect, &rd.config, &err) < 0)
		fail_msg("%s", err.text);
}

/* The port is free again as soon as the listener is closed. */
int rd_listen(int family, uint16_t port)
{
	struct lb_addr a = rd_addr(family == AF_INET ? "127.0.0.1" : "::1");
	struct sockaddr_storage sa = {};
	int on = 1, fd;
	socklen_t len;

	rd_enter(RD_PROXY_GROUP);
	fd = fx_tcp(family, 0);
	rd_enter(RD_APP);
	len = addr_to_sockaddr(&a, port, &sa);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(listen(fd, 512), 0);
	return fd;
}

int rd_load(void **state)
{
	struct sockaddr_in addr;
	socklen_t len = sizeof(addr);

	rd = (struct rd_fx){ .listener = -1, .listener6 = -1 };
	rd.listener = rd_listen(AF_INET, 0);
	assert_int_equal(getsockname(rd.listener, (struct sockaddr *)&addr, &len), 0);
	rd.port = ntohs(addr.sin_port);
	rd.app = rd_group_path(RD_APP);
	rd.proxy = rd_group_path(RD_PROXY_GROUP);
	rd.top = rd_group_path("");
	rd.entries[0] = (struct config_redirect){ .cgroup = rd.app, .addr = rd_addr("127.0.0.1"), .port = rd.port };
	rd.config.redirects = rd.entries;
	rd.config.n_redirects = 1;
	rd.redirect = opened;
	assert_int_equal(redirect_stats(rd.redirect, rd.stats), 0);
	rd_apply();
	return 0;
}

int rd_unload(void **state)
{
	/* The configuration is on the test's stack. */
	rd.config = (struct config){};
	rd.redirect = opened;
	rd_apply();
	closep(&rd.listener);
	closep(&rd.listener6);
	free(rd.app);
	free(rd.proxy);
	free(rd.top);
	return 0;
}

void rd_listen6(void)
{
	rd.listener6 = rd_listen(AF_INET6, rd.port);
}

/* As the family of the socket wants it. */
static socklen_t to_sockaddr(const char *text, uint16_t port, int family, struct sockaddr_storage *ret)
{
	struct lb_addr a = rd_addr(text);
	struct sockaddr_in6 *v6 = (void *)ret;

	if (family == AF_INET)
		return addr_to_sockaddr(&a, port, ret);
	*v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port) };
	memcpy(&v6->sin6_addr, &a, sizeof(a));
	return sizeof(*v6);
}

static int family_of(int fd)
{
	int family = 0;
	socklen_t len = sizeof(family);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len), 0);
	return family;
}

int rd_connect_on(int fd, const char *addr, uint16_t port)
{
	struct sockaddr_storage sa = {};
	socklen_t len = to_sockaddr(addr, port, family_of(fd), &sa);

	return fx_connect(fd, &sa, len);
}

static int connect_of(int family, const char *addr, uint16_t port)
{
	int fd = fx_tcp(family, 0), r = rd_connect_on(fd, addr, port);

	if (r < 0) {
		(void)close(fd);
		return r;
	}
	return fd;
}

int rd_connect(const char *addr, uint16_t port)
{
	return connect_of(strchr(addr, ':') ? AF_INET6 : AF_INET, addr, port);
}

int rd_connect_mapped(const char *addr, uint16_t port)
{
	return connect_of(AF_INET6, addr, port);
}

int rd_accept(void)
{
	struct pollfd p[2] = { { .fd = rd.listener, .events = POLLIN }, { .fd = rd.listener6, .events = POLLIN } };

	assert_true(poll(p, 2, 10000) > 0);
	return fx_accept(p[0].revents ? rd.listener : rd.listener6);
}

static void expect_sockaddr(const struct sockaddr_storage *sa, const char *addr, uint16_t port)
{
	struct lb_addr want = rd_addr(addr), is = {};
	char a[ADDR_TEXT_MAX], b[ADDR_TEXT_MAX];
	uint16_t is_port = 0;

	assert_int_equal(addr_from_sockaddr((const struct sockaddr *)sa, &is, &is_port), 0);
	assert_string_equal(addr_format(&is, is_port, a), addr_format(&want, port, b));
}

void rd_expect_original(int fd, const char *addr, uint16_t port)
{
	bool v6 = family_of(fd) == AF_INET6;
	struct sockaddr_storage sa = {};
	socklen_t len = sizeof(sa);

	assert_int_equal(getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, 80, &sa, &len), 0);
	expect_sockaddr(&sa, addr, port);
	/* As proxies do that know one family only. */
	if (v6 || strchr(addr, ':'))
		return;
	len = sizeof(struct sockaddr_in);
	sa = (struct sockaddr_storage){};
	assert_int_equal(getsockopt(fd, IPPROTO_IP, 80, &sa, &len), 0);
	assert_int_equal(len, sizeof(struct sockaddr_in));
	assert_int_equal(sa.ss_family, AF_INET);
	expect_sockaddr(&sa, addr, port);
}

int rd_original_error(int fd)
{
	bool v6 = family_of(fd) == AF_INET6;
	struct sockaddr_storage sa = {};
	socklen_t len = sizeof(sa);

	return getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, 80, &sa, &len) < 0 ? -errno : 0;
}

void rd_expect_peer(int fd, const char *addr, uint16_t port)
{
	struct sockaddr_storage sa = {};
	socklen_t len = sizeof(sa);

	assert_int_equal(getpeername(fd, (struct sockaddr *)&sa, &len), 0);
	assert_int_equal(sa.ss_family, family_of(fd));
	expect_sockaddr(&sa, addr, port);
}

void rd_expect_redirected(const char *addr, uint16_t port)
{
	_cleanup_close_ int client = rd_connect(addr, port), proxy = -1;

	if (client < 0)
		fail_msg("connect to %s port %u: %s", addr, port, strerror(-client));
	proxy = rd_accept();
	rd_expect_original(proxy, addr, port);
	rd_expect_peer(client, addr, port);
	fx_exchange(client, proxy);
}

void rd_expect_straight(const char *addr, uint16_t port)
{
	assert_int_equal(rd_connect(addr, port), -ENETUNREACH);
}

uint64_t rd_stat(enum rd_stat stat)
{
	uint64_t v[_RD_STAT_MAX];

	assert_int_equal(redirect_stats(rd.redirect, v), 0);
	return v[stat] - rd.stats[stat];
}

static int count_map(int fd, uint32_t id, void *data)
{
	struct rd_key key, next;
	size_t *n = data;

	/* Of other programs on this machine are empty, or are not: only those of this process count. */
	if (id != *n)
		return 0;
	*n = 0;
	for (bool first = true; !bpf_map_get_next_key(fd, first ? NULL : &key, &next); first = false, key = next)
		(*n)++;
	return 1;
}

size_t rd_pending(void)
{
	size_t n = redirect_map_id(rd.redirect, "rd_pend");

	assert_int_equal(bpf_sys_each_map("rd_pend", count_map, &n), 1);
	return n;
}
