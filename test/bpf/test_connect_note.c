// SPDX-License-Identifier: GPL-2.0-or-later
/* The connect hook's notes of sockets: given back whatever becomes of the socket, believed for no other, and done without. */
#include "cn.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

#include <bpf/bpf.h>

#define KEYS 8	    /* of a bucket, at its beginning */
#define KEY_SHIFT 2 /* of the cookie */
#define KEY_FLAGS 3 /* written, and counted */
#define NOBODY (1ULL << 60)
#define VALUE_MAX 1024
#define THREADS 4
#define ROUNDS 500

static struct cn_service tcp, udp;
static struct lb_vip vip_tcp, vip_udp;
static uint32_t id_tcp, id_udp;

struct table {
	int fd;
	uint32_t n;
};

static void table_close(struct table *t)
{
	closep(&t->fd);
}

static struct table table_open(void)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);
	struct table t;
	char pin[300];

	(void)snprintf(pin, sizeof(pin), "%s/cn_notes", cn.pins);
	t.fd = bpf_obj_get(pin);
	assert_true(t.fd >= 0);
	assert_int_equal(bpf_obj_get_info_by_fd(t.fd, &info, &len), 0);
	assert_true(info.value_size <= VALUE_MAX);
	t.n = info.max_entries;
	return t;
}

/* How many notes are in use. */
static size_t table_used(void)
{
	_cleanup_(table_close) struct table t = table_open();
	uint64_t v[VALUE_MAX / 8];
	size_t used = 0;

	for (uint32_t i = 0; i < t.n; i++) {
		assert_int_equal(bpf_map_lookup_elem(t.fd, &i, v), 0);
		for (size_t k = 0; k < KEYS; k++)
			used += v[k] != 0;
	}
	return used;
}

static void table_await(size_t n)
{
	uint64_t until = clock_ms() + 10000;
	size_t used;

	while ((used = table_used()) != n) {
		if (clock_ms() > until)
			fail_msg("%zu notes are in use, not %zu", used, n);
		(void)usleep(1000);
	}
}

/* All notes are those of a socket that is not there, or free. */
static void table_fill(bool full)
{
	_cleanup_(table_close) struct table t = table_open();
	uint64_t v[VALUE_MAX / 8] = {};

	for (size_t k = 0; k < KEYS; k++)
		v[k] = full ? (NOBODY + k) << KEY_SHIFT | KEY_FLAGS : 0;
	for (uint32_t i = 0; i < t.n; i++)
		assert_int_equal(bpf_map_update_elem(t.fd, &i, v, BPF_ANY), 0);
}

/* Writes another key where that of this cookie is. */
static void table_rekey(uint64_t cookie, uint64_t key)
{
	_cleanup_(table_close) struct table t = table_open();
	uint64_t v[VALUE_MAX / 8];

	for (uint32_t i = 0; i < t.n; i++) {
		assert_int_equal(bpf_map_lookup_elem(t.fd, &i, v), 0);
		for (size_t k = 0; k < KEYS; k++) {
			if (v[k] >> KEY_SHIFT != cookie)
				continue;
			v[k] = key;
			assert_int_equal(bpf_map_update_elem(t.fd, &i, v, BPF_ANY), 0);
			return;
		}
	}
	fail_msg("there is no note of this socket");
}

static uint64_t cookie_of(int fd)
{
	socklen_t len = sizeof(uint64_t);
	uint64_t cookie;

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
	return cookie;
}

/* A service of TCP whose server says nothing, and one of UDP. */
static void serve(void)
{
	vip_tcp = cn_vip(AF_INET, 5, IPPROTO_TCP);
	vip_udp = cn_vip(AF_INET, 5, IPPROTO_UDP);
	cn_service(&tcp, vip_tcp, LB_ROUND_ROBIN, cn_serve_silent(AF_INET), 1);
	id_tcp = cn_backend(cn_apply(&tcp), 0);
	cn_service(&udp, vip_udp, LB_ROUND_ROBIN, cn_serve(1, AF_INET, IPPROTO_UDP), 1);
	id_udp = cn_backend(cn_apply(&udp), 1);
}

static void send_and_hear(int fd)
{
	struct sockaddr_storage addr, from = {};
	socklen_t n = cn_sockaddr(&vip_udp, &addr), len = sizeof(from);
	unsigned char number;

	assert_int_equal(sendto(fd, "?", 1, 0, (struct sockaddr *)&addr, n), 1);
	assert_int_equal(recvfrom(fd, &number, 1, 0, (struct sockaddr *)&from, &len), 1);
	assert_int_equal(number, 1);
	assert_memory_equal(&from, &addr, n);
}

/* Sockets that end in every way there is; each has a note meanwhile. */
static void test_given_back(void **state)
{
	int end[2], fd = cn_socket(AF_INET, SOCK_STREAM), status;
	struct cn_service gone;
	pid_t child;

	serve();
	/* Never connected. */
	(void)close(fd);
	assert_int_equal(table_used(), 0);
	/* Closed; and only when its last descriptor is, be it another process's. */
	fd = cn_socket(AF_INET, SOCK_STREAM);
	assert_int_equal(cn_connect(fd, &vip_tcp), 0);
	assert_int_equal(table_used(), 1);
	assert_int_equal(pipe(end), 0);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		(void)close(end[1]);
		_exit(read(end[0], &status, 1) != 0);
	}
	(void)close(end[0]);
	(void)close(fd);
	assert_int_equal(table_used(), 1);
	assert_int_equal(cn_counts(id_tcp).conns, 1);
	(void)close(end[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	table_await(0);
	cn_await_conns(id_tcp, 0);
	/* Shut down first. */
	fd = cn_socket(AF_INET, SOCK_STREAM);
	assert_int_equal(cn_connect(fd, &vip_tcp), 0);
	assert_int_equal(shutdown(fd, SHUT_RDWR), 0);
	(void)close(fd);
	table_await(0);
	cn_await_conns(id_tcp, 0);
	/* Datagrams, connected and not; several services by one socket are one note. */
	fd = cn_socket(AF_INET, SOCK_DGRAM);
	send_and_hear(fd);
	assert_int_equal(table_used(), 1);
	assert_int_equal(cn_connect(fd, &vip_udp), 0);
	assert_int_equal(cn_connect(fd, &vip_udp), 0);
	assert_int_equal(table_used(), 1);
	assert_int_equal(cn_counts(id_udp).conns, 1);
	(void)close(fd);
	assert_int_equal(table_used(), 0);
	assert_int_equal(cn_counts(id_udp).conns, 0);
	/* Refused. */
	cn_service(&gone, cn_vip(AF_INET, 7, IPPROTO_TCP), LB_RANDOM, cn_serve_silent(AF_INET), 1);
	(void)cn_apply(&gone);
	cn_server_stop(2);
	fd = cn_socket(AF_INET, SOCK_STREAM);
	assert_int_equal(cn_connect(fd, &gone.spec.vip), -ECONNREFUSED);
	assert_int_equal(table_used(), 0);
	(void)close(fd);
	assert_int_equal(cn_stat(LB_STAT_NOTES_FULL), 0);
	assert_int_equal(lb_ctl(cn.lb)->stores, 0);
}

/* Closed before there is an answer. */
static void test_given_up(void **state)
{
	int fds[8];

	serve();
	for (int i = 0; i < 8; i++) {
		int r;

		fds[i] = cn_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
		r = cn_connect(fds[i], &vip_tcp);
		assert_true(r == 0 || r == -EINPROGRESS);
	}
	assert_int_equal(table_used(), 8);
	for (int i = 0; i < 8; i++)
		(void)close(fds[i]);
	table_await(0);
	cn_await_conns(id_tcp, 0);
}

/* Each socket has its own of what many have at once. */
static void test_many(void **state)
{
	static int fds[500];

	serve();
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = cn_socket(AF_INET, SOCK_DGRAM);
		assert_int_equal(cn_connect(fds[i], &vip_udp), 0);
	}
	assert_int_equal(cn_counts(id_udp).conns, ARRAY_SIZE(fds));
	assert_int_equal(table_used() + cn_stat(LB_STAT_NOTES_FULL), ARRAY_SIZE(fds));
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		cn_assert_peer(fds[i], &vip_udp);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i += 2)
		(void)close(fds[i]);
	assert_int_equal(cn_counts(id_udp).conns, ARRAY_SIZE(fds) / 2);
	for (size_t i = 1; i < ARRAY_SIZE(fds); i += 2) {
		cn_assert_peer(fds[i], &vip_udp);
		(void)close(fds[i]);
	}
	assert_int_equal(cn_counts(id_udp).conns, 0);
	assert_int_equal(table_used(), 0);
}

/* A note with another cookie says nothing of this socket, and is not given back by it. */
static void test_not_believed(void **state)
{
	int fd = cn_socket(AF_INET, SOCK_STREAM);
	struct lb_vip direct = { .proto = IPPROTO_TCP };
	uint64_t cookie;

	serve();
	direct.addr = cn_servers[0].addr;
	direct.port = htons(cn_servers[0].port);
	assert_int_equal(cn_connect(fd, &vip_tcp), 0);
	cn_assert_peer(fd, &vip_tcp);
	cookie = cookie_of(fd);
	table_rekey(cookie, NOBODY << KEY_SHIFT | KEY_FLAGS);
	cn_assert_peer(fd, &direct);
	/* Nor is one believed that is only being written. */
	table_rekey(NOBODY, cookie << KEY_SHIFT);
	cn_assert_peer(fd, &direct);
	table_rekey(cookie, NOBODY << KEY_SHIFT | KEY_FLAGS);
	(void)close(fd);
	assert_int_equal(table_used(), 1);
	assert_int_equal(cn_counts(id_tcp).conns, 1);
}

/* What a socket whose record is in its storage gives, and what becomes of it. */
static void use_storage(const int *streams, const int *datagrams)
{
	cn_assert_peer(streams[0], &vip_tcp);
	cn_assert_peer(datagrams[0], &vip_udp);
	assert_int_equal(send(datagrams[0], "?", 1, 0), 1);
	assert_int_equal(cn_hear(datagrams[0]), 1);
	send_and_hear(datagrams[1]);
}

static void open_storage(int streams[2], int datagrams[2])
{
	table_fill(true);
	for (int i = 0; i < 2; i++) {
		streams[i] = cn_socket(AF_INET, SOCK_STREAM);
		datagrams[i] = cn_socket(AF_INET, SOCK_DGRAM);
		assert_int_equal(cn_connect(streams[i], &vip_tcp), 0);
	}
	assert_int_equal(cn_connect(datagrams[0], &vip_udp), 0);
	send_and_hear(datagrams[1]);
	assert_int_equal(cn_counts(id_tcp).conns, 2);
	assert_int_equal(cn_counts(id_udp).conns, 1);
}

static void close_storage(const int streams[2], const int datagrams[2])
{
	for (int i = 0; i < 2; i++) {
		(void)close(streams[i]);
		(void)close(datagrams[i]);
	}
	cn_await_conns(id_tcp, 0);
	cn_await_conns(id_udp, 0);
}

/* No note is free: the sockets' storage does, is counted, and stays known when there is room again. */
static void test_full(void **state)
{
	int streams[2], datagrams[2];

	serve();
	open_storage(streams, datagrams);
	assert_int_equal(cn_stat(LB_STAT_NOTES_FULL), 4);
	assert_int_equal(lb_ctl(cn.lb)->stores, 1);
	use_storage(streams, datagrams);
	table_fill(false);
	use_storage(streams, datagrams);
	/* Once known by its storage, a socket stays so, and is counted once. */
	assert_int_equal(cn_connect(datagrams[0], &vip_udp), 0);
	assert_int_equal(cn_counts(id_udp).conns, 1);
	assert_int_equal(table_used(), 0);
	use_storage(streams, datagrams);
	close_storage(streams, datagrams);
}

/* The tables as the version before notes leaves them: its sockets are known, and new ones have notes. */
static void test_upgrade(void **state)
{
	const char *cgroups[] = { cn.cgroup };
	struct connect_opts opts = { .cgroups = cgroups, .n_cgroups = 1 };
	int streams[2], datagrams[2], fd = cn_socket(AF_INET, SOCK_DGRAM);
	struct err err = {};
	bool taken_over;
	char pin[300];

	serve();
	open_storage(streams, datagrams);
	lb_ctl(cn.lb)->abi = 1;
	lb_ctl(cn.lb)->stores = 0;
	cn_close();
	(void)snprintf(pin, sizeof(pin), "%s/cn_notes", cn.pins);
	assert_int_equal(unlink(pin), 0);
	if (lb_open(NULL, &cn.lb, &taken_over, &err) < 0 || connect_open(cn.lb, &opts, &cn.connect, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(taken_over);
	assert_int_equal(lb_ctl(cn.lb)->abi, LB_ABI_VERSION);
	use_storage(streams, datagrams);
	assert_int_equal(cn_connect(fd, &vip_udp), 0);
	cn_assert_peer(fd, &vip_udp);
	assert_int_equal(table_used(), 1);
	assert_int_equal(cn_counts(id_udp).conns, 2);
	(void)close(fd);
	close_storage(streams, datagrams);
	assert_int_equal(table_used(), 0);
}

static const char *hammer_wrong;

static void *hammer(void *data)
{
	struct sockaddr_storage to_tcp, to_udp, have;
	socklen_t n_tcp = cn_sockaddr(&vip_tcp, &to_tcp), n_udp = cn_sockaddr(&vip_udp, &to_udp), n;
	const struct linger at_once = { .l_onoff = 1 };

	for (int i = 0; i < ROUNDS; i++) {
		bool stream = i % 2;
		int fd = socket(AF_INET, (stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
		const struct sockaddr_storage *to = stream ? &to_tcp : &to_udp;

		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		if (!stream && sendto(fd, "?", 1, 0, (struct sockaddr *)to, n_udp) != 1)
			hammer_wrong = "sendto() failed";
		if (connect(fd, (struct sockaddr *)to, stream ? n_tcp : n_udp) < 0)
			hammer_wrong = "connect() failed";
		n = sizeof(have);
		memset(&have, 0, sizeof(have));
		if (getpeername(fd, (struct sockaddr *)&have, &n) < 0 || memcmp(&have, to, n))
			hammer_wrong = "getpeername() says another address";
		(void)close(fd);
	}
	return data;
}

/* On several processors at once, all notes of a bucket in use: nothing is left, and nothing mixed up. */
static void test_hammered(void **state)
{
	pthread_t threads[THREADS];

	serve();
	hammer_wrong = NULL;
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hammer, NULL), 0);
	for (size_t i = 0; i < THREADS; i++)
		(void)pthread_join(threads[i], NULL);
	if (hammer_wrong)
		fail_msg("%s", hammer_wrong);
	cn_await_conns(id_tcp, 0);
	cn_await_conns(id_udp, 0);
	table_await(0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_given_back, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_given_up, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_many, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_not_believed, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_full, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_upgrade, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_hammered, cn_setup, cn_teardown),
	};

	return cmocka_run_group_tests_name("connect_note", tests, cn_away, cn_home);
}
