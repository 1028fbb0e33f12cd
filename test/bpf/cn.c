// SPDX-License-Identifier: GPL-2.0-or-later
#include "cn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "model/addr.h"
#include "sys/bpf.h"
#include "place.h"
#include "sys/cgroup.h"

struct cn cn;
struct cn_server cn_servers[CN_SERVERS_MAX];
size_t cn_n_servers;

static char cgroup_before[1024], bpffs[256];
static int netns_before = -1, mntns_before = -1;
static pthread_t server_thread;
static bool server_runs;
static int server_epoll = -1, server_stop[2] = { -1, -1 };

int cn_away(void **state)
{
	_cleanup_free_ char *root = NULL;
	struct err err = {};

	bpf_sys_init();
	if (cgroup_root(&root, &err) < 0 || place_find_cgroup(cgroup_before, sizeof(cgroup_before)) < 0) {
		print_error("%s\n", err.text);
		return -1;
	}
	(void)snprintf(cn.cgroup, sizeof(cn.cgroup), "%s/waggle-cn-%d", root, getpid());
	(void)snprintf(bpffs, sizeof(bpffs), "/tmp/waggle-cn-%d", getpid());
	(void)snprintf(cn.pins, sizeof(cn.pins), "%.200s/pins", bpffs);
	netns_before = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	mntns_before = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (mkdir(cn.cgroup, 0755) < 0 || place_enter_cgroup(cn.cgroup) < 0 ||
	    unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 || place_loopback_up() < 0 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mkdir(bpffs, 0700) < 0 ||
	    mount("bpf", bpffs, "bpf", 0, NULL) < 0) {
		print_error("cannot make a cgroup and namespaces: %s: run as root\n", strerror(errno));
		return -1;
	}
	return setenv("WAGGLE_BPF_DIR", cn.pins, 1) |
	       place_write("/proc/sys/net/ipv4/ip_local_port_range", "2000 65000");
}

int cn_home(void **state)
{
	(void)umount2(bpffs, MNT_DETACH);
	if (setns(netns_before, CLONE_NEWNET) < 0 || setns(mntns_before, CLONE_NEWNS) < 0 ||
	    place_enter_cgroup(cgroup_before) < 0)
		return -1;
	closep(&netns_before);
	closep(&mntns_before);
	return rmdir(bpffs) | rmdir(cn.cgroup);
}

void cn_open(const struct lb_limits *limits)
{
	const char *cgroups[] = { cn.cgroup };
	struct connect_opts opts = { .cgroups = cgroups, .n_cgroups = 1 };
	struct err err = {};
	bool taken_over;

	if (lb_open(limits, &cn.lb, &taken_over, &err) < 0 || connect_open(cn.lb, &opts, &cn.connect, &err) < 0)
		fail_msg("%s", err.text);
}

void cn_close(void)
{
	cn.connect = connect_close(cn.connect);
	cn.lb = lb_close(cn.lb);
}

int cn_setup(void **state)
{
	static const struct lb_limits limits = { .services = 64, .backends = 512, .ring_entries = 1 << 20 };

	cn_open(&limits);
	return 0;
}

int cn_teardown(void **state)
{
	struct err err = {};

	cn_servers_end();
	cn_close();
	if (lb_unpin(&err) < 0) {
		print_error("%s\n", err.text);
		return -1;
	}
	return 0;
}

/* The thread. What a server says is one byte, its number. */

static void serve_tcp(const struct cn_server *s)
{
	unsigned char number = (unsigned char)s->number;
	int fd;

	while ((fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		(void)send(fd, &number, 1, MSG_NOSIGNAL);
		(void)close(fd);
	}
}

static void serve_udp(const struct cn_server *s)
{
	unsigned char number = (unsigned char)s->number;
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	char buf[64];

	while (recvfrom(s->fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&from, &len) >= 0) {
		(void)sendto(s->fd, &number, 1, MSG_NOSIGNAL, (struct sockaddr *)&from, len);
		len = sizeof(from);
	}
}

static void *serve(void *data)
{
	for (;;) {
		struct epoll_event e;

		if (epoll_wait(server_epoll, &e, 1, -1) != 1)
			continue;
		if (!e.data.ptr)
			return NULL;
		if (((struct cn_server *)e.data.ptr)->proto == IPPROTO_TCP)
			serve_tcp(e.data.ptr);
		else
			serve_udp(e.data.ptr);
	}
}

static void server_watch(int fd, void *ptr)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = ptr };

	assert_int_equal(epoll_ctl(server_epoll, EPOLL_CTL_ADD, fd, &e), 0);
}

static void server_thread_start(void)
{
	if (server_runs)
		return;
	server_epoll = epoll_create1(EPOLL_CLOEXEC);
	assert_true(server_epoll >= 0);
	assert_int_equal(pipe2(server_stop, O_CLOEXEC), 0);
	server_watch(server_stop[0], NULL);
	assert_int_equal(pthread_create(&server_thread, NULL, serve, NULL), 0);
	server_runs = true;
}

static struct cn_server *server_new(int family, int proto)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr *addr = family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
	socklen_t len = family == AF_INET ? sizeof(v4) : sizeof(v6);
	struct cn_server *s = &cn_servers[cn_n_servers];

	assert_true(cn_n_servers < CN_SERVERS_MAX);
	s->number = (int)cn_n_servers++;
	s->proto = proto;
	s->fd = socket(family, (proto == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(s->fd >= 0);
	/* Each IPv4 server has an address of its own. */
	v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (uint32_t)s->number);
	assert_int_equal(bind(s->fd, addr, len), 0);
	if (proto == IPPROTO_TCP)
		assert_int_equal(listen(s->fd, 4096), 0);
	assert_int_equal(getsockname(s->fd, addr, &len), 0);
	assert_int_equal(addr_from_sockaddr(addr, &s->addr, &s->port), 0);
	return s;
}

int cn_serve(size_t n, int family, int proto)
{
	int first = (int)cn_n_servers;

	server_thread_start();
	while (n--) {
		struct cn_server *s = server_new(family, proto);

		server_watch(s->fd, s);
	}
	return first;
}

int cn_serve_silent(int family)
{
	return server_new(family, IPPROTO_TCP)->number;
}

void cn_server_stop(int number)
{
	closep(&cn_servers[number].fd);
	cn_servers[number].fd = -1;
}

void cn_servers_end(void)
{
	if (server_runs) {
		(void)!write(server_stop[1], "", 1);
		(void)pthread_join(server_thread, NULL);
		server_runs = false;
		closep(&server_stop[0]);
		closep(&server_stop[1]);
		closep(&server_epoll);
	}
	for (size_t i = 0; i < cn_n_servers; i++)
		closep(&cn_servers[i].fd);
	cn_n_servers = 0;
}

struct lb_vip cn_vip(int family, int n, int proto)
{
	struct lb_vip vip = { .port = htons(80), .proto = (uint8_t)proto };

	if (family == AF_INET) {
		vip.addr.v6[2] = htonl(0xffff);
		vip.addr.v6[3] = htonl(0xc6120000 + (uint32_t)n);
	} else {
		vip.addr.v6[0] = htonl(0x20010db8);
		vip.addr.v6[3] = htonl((uint32_t)n);
	}
	return vip;
}

socklen_t cn_sockaddr(const struct lb_vip *vip, struct sockaddr_storage *ret)
{
	return addr_to_sockaddr(&vip->addr, ntohs(vip->port), ret);
}

socklen_t cn_sockaddr_mapped(const struct lb_vip *vip, struct sockaddr_storage *ret)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = vip->port };

	memcpy(&v6.sin6_addr, &vip->addr, sizeof(v6.sin6_addr));
	memcpy(ret, &v6, sizeof(v6));
	return sizeof(v6);
}

void cn_service(struct cn_service *s, struct lb_vip vip, enum lb_scheduler scheduler, int first, size_t n)
{
	*s = (struct cn_service){
		.spec = { .vip = vip,
			  .table_size = 65537,
			  .plan = { .scheduler = scheduler, .flags = LB_PLAN_CONNECT },
			  .n_backends = n },
	};
	for (size_t i = 0; i < n; i++) {
		const struct cn_server *server = &cn_servers[(size_t)first + i];

		s->backends[i] = (struct lb_backend_spec){ .addr = server->addr, .port = server->port, .weight = 1 };
	}
}

uint32_t cn_apply(struct cn_service *s)
{
	struct err err = {};
	uint32_t id;

	s->spec.backends = s->backends;
	if (lb_apply(cn.lb, &s->spec, &id, &err) < 0)
		fail_msg("%s", err.text);
	return id;
}

uint32_t cn_backend(uint32_t service, int number)
{
	uint32_t id = lb_find_backend(cn.lb, service, &cn_servers[number].addr, cn_servers[number].port);

	assert_int_not_equal(id, LB_NONE);
	return id;
}

struct lb_counts cn_counts(uint32_t backend)
{
	struct lb_counts counts;

	assert_int_equal(lb_backend_counts(cn.lb, backend, &counts), 0);
	return counts;
}

uint64_t cn_stat(enum lb_stat stat)
{
	uint64_t v[_LB_STAT_MAX];

	assert_int_equal(lb_stats(cn.lb, v), 0);
	return v[stat];
}

int cn_socket(int family, int type)
{
	const struct linger at_once = { .l_onoff = 1 };
	struct timeval patience = { .tv_sec = 10 };
	int fd = socket(family, type | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	/* A reset at the end: thousands of connections must not fill the table of those that wait for their end. */
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
	return fd;
}

static int family_of(int fd)
{
	socklen_t len = sizeof(int);
	int family;

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len), 0);
	return family;
}

/* As the socket's family writes the service's address. */
static socklen_t sockaddr_for(int fd, const struct lb_vip *vip, struct sockaddr_storage *ret)
{
	return family_of(fd) == AF_INET6 ? cn_sockaddr_mapped(vip, ret) : cn_sockaddr(vip, ret);
}

int cn_connect(int fd, const struct lb_vip *vip)
{
	struct sockaddr_storage addr;
	socklen_t len = sockaddr_for(fd, vip, &addr);

	return connect(fd, (struct sockaddr *)&addr, len) < 0 ? -errno : 0;
}

int cn_hear(int fd)
{
	unsigned char number;
	ssize_t n = recv(fd, &number, 1, 0);

	if (n != 1)
		fail_msg("recv: %zd: %s", n, strerror(errno));
	return number;
}

int cn_ask(const struct lb_vip *vip)
{
	_cleanup_close_ int fd = cn_socket(addr_is_v4(&vip->addr) ? AF_INET : AF_INET6,
					   vip->proto == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM);
	int r = cn_connect(fd, vip);

	if (r < 0)
		return r;
	if (vip->proto == IPPROTO_UDP)
		assert_int_equal(send(fd, "?", 1, 0), 1);
	return cn_hear(fd);
}

void cn_assert_peer(int fd, const struct lb_vip *vip)
{
	struct sockaddr_storage want = {}, have = {};
	socklen_t n_want = sockaddr_for(fd, vip, &want), n = sizeof(have);

	assert_int_equal(getpeername(fd, (struct sockaddr *)&have, &n), 0);
	assert_int_equal(n, n_want);
	assert_memory_equal(&have, &want, n);
}

void cn_await_conns(uint32_t backend, uint64_t n)
{
	uint64_t until = clock_ms() + 10000;

	while (cn_counts(backend).conns != n) {
		if (clock_ms() > until)
			fail_msg("%llu connections are open, not %llu", (unsigned long long)cn_counts(backend).conns,
				 (unsigned long long)n);
		(void)usleep(1000);
	}
}
