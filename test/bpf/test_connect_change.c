// SPDX-License-Identifier: GPL-2.0-or-later
/* The connect hook while things change: services, the process that keeps them, programs; and tables that are full. */
#include "cn.h"
#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <bpf/bpf.h>

#define CLIENTS 3

static struct cn_service service;

static void serve(enum lb_scheduler scheduler, size_t n, struct lb_vip *ret)
{
	*ret = cn_vip(AF_INET, 5, IPPROTO_TCP);
	cn_service(&service, *ret, scheduler, cn_serve(n, AF_INET, IPPROTO_TCP), n);
}

/* Clients that connect all the time. Assertions of cmocka are not for threads: they note what went wrong. */
struct load {
	pthread_t threads[CLIENTS];
	struct lb_vip vip;
	const char *wrong;
	int error;
	unsigned int state; /* odd: a change is on its way; even: only backends of state / 2 % 2 may be picked */
	unsigned long asked, settled;
	bool check, stop;
};

static int load_ask(const struct lb_vip *vip)
{
	struct sockaddr_storage addr;
	socklen_t n = cn_sockaddr(vip, &addr);
	struct timeval patience = { .tv_sec = 20 };
	const struct linger at_once = { .l_onoff = 1 };
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned char number;
	ssize_t got;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)) < 0 ||
	    connect(fd, (struct sockaddr *)&addr, n) < 0)
		return -errno;
	got = recv(fd, &number, 1, 0);
	if (got == 1)
		return number;
	return got < 0 ? -errno : -ECONNABORTED;
}

static void *load_run(void *data)
{
	struct load *l = data;

	while (!__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE)) {
		unsigned int before = __atomic_load_n(&l->state, __ATOMIC_SEQ_CST), after;
		int number = load_ask(&l->vip);

		after = __atomic_load_n(&l->state, __ATOMIC_SEQ_CST);
		(void)__atomic_fetch_add(&l->asked, 1, __ATOMIC_RELAXED);
		if (number < 0) {
			l->error = -number;
			__atomic_store_n(&l->wrong, "a connect failed", __ATOMIC_RELEASE);
			return NULL;
		}
		if (!l->check || before != after || before % 2)
			continue;
		(void)__atomic_fetch_add(&l->settled, 1, __ATOMIC_RELAXED);
		if ((unsigned int)number / 2 != before / 2 % 2) {
			__atomic_store_n(&l->wrong, "a backend was picked that was no longer there", __ATOMIC_RELEASE);
			return NULL;
		}
	}
	return NULL;
}

static void load_start(struct load *l, struct lb_vip vip, bool check)
{
	*l = (struct load){ .vip = vip, .check = check };
	for (size_t i = 0; i < CLIENTS; i++)
		assert_int_equal(pthread_create(&l->threads[i], NULL, load_run, l), 0);
}

static void load_stop(struct load *l)
{
	__atomic_store_n(&l->stop, true, __ATOMIC_RELEASE);
	for (size_t i = 0; i < CLIENTS; i++)
		(void)pthread_join(l->threads[i], NULL);
	if (l->wrong)
		fail_msg("%s: %s", l->wrong, strerror(l->error));
	print_message("# %lu connects\n", l->asked);
}

/* Backends 0 and 1 by turns with 2 and 3: after lb_apply() only the new ones, while it runs either, at no time none. */
static void test_atomic(void **state)
{
	static struct cn_service sides[2];
	struct lb_vip vip;
	struct load load;

	serve(LB_ROUND_ROBIN, 4, &vip);
	for (int i = 0; i < 2; i++)
		cn_service(&sides[i], vip, LB_RANDOM, 2 * i, 2);
	(void)cn_apply(&sides[0]);
	load_start(&load, vip, true);
	for (unsigned int i = 1; i <= 1000; i++) {
		struct err err = {};
		uint32_t id;

		__atomic_store_n(&load.state, 2 * i - 1, __ATOMIC_SEQ_CST);
		/* Hundreds of changes between two grace periods, or one. */
		if (i < 800 && i % 100 == 1)
			lb_begin(cn.lb);
		sides[i % 2].spec.plan.scheduler = i / 2 % 3 ? LB_RANDOM : LB_MAGLEV;
		sides[i % 2].spec.table_size = 251;
		sides[i % 2].spec.backends = sides[i % 2].backends;
		if (lb_apply(cn.lb, &sides[i % 2].spec, &id, &err) < 0)
			fail_msg("%s", err.text);
		if (i < 800 && i % 100)
			continue;
		assert_int_equal(lb_end(cn.lb, &err), 0);
		__atomic_store_n(&load.state, 2 * i, __ATOMIC_SEQ_CST);
		/* A while for the clients, on a machine with few processors. */
		(void)sched_yield();
	}
	/* Until each state of the last has been seen. */
	for (uint64_t until = clock_ms() + 10000, had = load.settled; load.settled < had + 20;)
		if (clock_ms() > until || __atomic_load_n(&load.wrong, __ATOMIC_ACQUIRE))
			break;
	load_stop(&load);
	assert_true(load.settled >= 20);
}

/* The process goes, balancing stays; the next one finds ids, counts and connections as they were. */
static void test_take_over(void **state)
{
	struct lb_limits other = { .services = 5, .backends = 5, .ring_entries = 5 };
	const char *cgroups[] = { cn.cgroup };
	struct connect_opts opts = { .cgroups = cgroups, .n_cgroups = 1 };
	uint32_t id, backends[3];
	struct err err = {};
	bool taken_over = false;
	struct lb_vip vip;
	struct load load;
	int fd;

	serve(LB_MAGLEV, 3, &vip);
	id = cn_apply(&service);
	for (int i = 0; i < 3; i++)
		backends[i] = cn_backend(id, i);
	fd = cn_socket(AF_INET, SOCK_STREAM);
	assert_int_equal(cn_connect(fd, &vip), 0);
	load_start(&load, vip, false);
	for (int k = 0; k < 10; k++) {
		uint64_t conns = 0, picks = 0;

		cn_close();
		assert_true(load_ask(&vip) >= 0);
		assert_int_equal(lb_open(&other, &cn.lb, &taken_over, &err), 0);
		assert_true(taken_over);
		if (connect_open(cn.lb, &opts, &cn.connect, &err) < 0)
			fail_msg("%s", err.text);
		for (int i = 0; i < 3; i++) {
			assert_int_equal(cn_backend(id, i), backends[i]);
			conns += cn_counts(backends[i]).conns;
			picks += cn_counts(backends[i]).picks;
		}
		/* Each client may be seen once at every backend, as they are read one after the other. */
		assert_in_range(conns, 1, 3 * CLIENTS + 1);
		assert_true(picks > (uint64_t)k);
		assert_int_equal(cn_apply(&service), id);
	}
	load_stop(&load);
	cn_assert_peer(fd, &vip);
	closep(&fd);
	for (int i = 0; i < 3; i++)
		cn_await_conns(backends[i], 0);
}

/* Applies changes without end. */
static void change_for_ever(unsigned int seed)
{
	for (;;) {
		struct err err = {};
		uint32_t id;

		(void)lb_open(NULL, &cn.lb, &(bool){ false }, &err);
		for (int i = 0; i < 20 && cn.lb; i++) {
			service.spec.vip.port = htons((uint16_t)(80 + rand_r(&seed) % 4));
			service.spec.n_backends = 1 + (size_t)rand_r(&seed) % 4;
			service.spec.plan.scheduler = rand_r(&seed) % 2 ? LB_MAGLEV : LB_ROUND_ROBIN;
			service.spec.backends = service.backends;
			if (i % 5 == 0)
				lb_begin(cn.lb);
			if (service.spec.vip.port != htons(80) && rand_r(&seed) % 4 == 0)
				(void)lb_remove(cn.lb, &service.spec.vip, &err);
			else if (lb_apply(cn.lb, &service.spec, &id, &err) < 0)
				_exit(1);
			if (i % 5 == 4)
				(void)lb_end(cn.lb, &err);
		}
		cn.lb = lb_close(cn.lb);
	}
}

/* Killed at any moment, what it leaves can be taken over, and balancing never stops. */
static void test_killed_in_change(void **state)
{
	struct err err = {};
	struct lb_vip vip;
	struct load load;
	bool taken_over;

	serve(LB_ROUND_ROBIN, 4, &vip);
	service.spec.table_size = 4093;
	(void)cn_apply(&service);
	load_start(&load, vip, false);
	for (unsigned int i = 0; i < 40; i++) {
		int status;
		pid_t pid;

		cn.lb = lb_close(cn.lb);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			(void)alarm(60);
			change_for_ever(i);
		}
		(void)usleep(1000 * (i % 20));
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		if (lb_open(NULL, &cn.lb, &taken_over, &err) < 0)
			fail_msg("%s", err.text);
		assert_true(taken_over);
		assert_int_equal(lb_map_fd(cn.lb, "lb_nothing"), -ENOENT);
		service.spec.vip = vip;
		service.spec.n_backends = 4;
		(void)cn_apply(&service);
	}
	load_stop(&load);
	/* Nothing was lost: all but what is configured is free again. */
	for (uint16_t port = 81; port < 84; port++) {
		vip.port = htons(port);
		(void)lb_remove(cn.lb, &vip, NULL);
	}
	for (int i = 0; i < 4; i++)
		cn_await_conns(cn_backend(cn_apply(&service), i), 0);
	lb_collect(cn.lb);
	cn.lb = lb_close(cn.lb);
	assert_int_equal(lb_open(NULL, &cn.lb, &taken_over, &err), 0);
	for (int i = 1; i <= 60; i++) {
		service.spec.vip = cn_vip(AF_INET, 100 + i, IPPROTO_TCP);
		(void)cn_apply(&service);
	}
}

/* Each switch of a link is one step: no connect goes unbalanced. The links stay the same ones. */
static void test_switch_programs(void **state)
{
	const char *cgroups[] = { cn.cgroup };
	struct connect_opts opts = { .cgroups = cgroups, .n_cgroups = 1 };
	struct bpf_link_info before = {}, after = {};
	uint32_t len = sizeof(before);
	struct err err = {};
	struct lb_vip vip;
	struct load load;
	struct stat st;
	char pin[600];
	int link;

	serve(LB_RANDOM, 2, &vip);
	(void)cn_apply(&service);
	assert_int_equal(stat(cn.cgroup, &st), 0);
	(void)snprintf(pin, sizeof(pin), "%s/cn_connect4-%llu", cn.pins, (unsigned long long)st.st_ino);
	link = bpf_obj_get(pin);
	assert_true(link >= 0);
	assert_int_equal(bpf_obj_get_info_by_fd(link, &before, &len), 0);
	load_start(&load, vip, false);
	for (int i = 0; i < 10; i++) {
		struct connect *next;

		if (connect_open(cn.lb, &opts, &next, &err) < 0)
			fail_msg("%s", err.text);
		(void)connect_close(cn.connect);
		cn.connect = next;
	}
	load_stop(&load);
	assert_int_equal(bpf_obj_get_info_by_fd(link, &after, &len), 0);
	assert_int_equal(before.id, after.id);
	assert_int_not_equal(before.prog_id, after.prog_id);
	(void)close(link);
}

/* A failure leaves attached what was, and nothing more. */
static void test_cgroups(void **state)
{
	char below[600], missing[600], pin[600];
	const char *cgroups[] = { below, cn.cgroup, below, missing };
	struct connect_opts opts = { .cgroups = cgroups, .n_cgroups = 4 };
	struct err err = {};
	struct lb_vip vip;
	struct stat st;

	serve(LB_RANDOM, 1, &vip);
	(void)cn_apply(&service);
	(void)snprintf(below, sizeof(below), "%s/below", cn.cgroup);
	(void)snprintf(missing, sizeof(missing), "%s/missing", cn.cgroup);
	assert_int_equal(mkdir(below, 0755), 0);
	assert_int_equal(stat(below, &st), 0);
	(void)snprintf(pin, sizeof(pin), "%s/cn_connect4-%llu", cn.pins, (unsigned long long)st.st_ino);
	assert_int_equal(connect_set_cgroups(cn.connect, &opts, &err), -ENOENT);
	assert_int_equal(cn_ask(&vip), 0);
	/* One below another has nothing of its own. */
	opts.n_cgroups = 3;
	assert_int_equal(connect_set_cgroups(cn.connect, &opts, &err), 0);
	assert_int_equal(cn_ask(&vip), 0);
	assert_int_equal(access(pin, F_OK), -1);
	/* Alone, it has, and the one above has no longer. */
	opts.n_cgroups = 1;
	assert_int_equal(connect_set_cgroups(cn.connect, &opts, &err), 0);
	assert_int_equal(access(pin, F_OK), 0);
	assert_int_equal(cn_ask(&vip), -ENETUNREACH);
	opts.cgroups = &cgroups[1];
	assert_int_equal(connect_set_cgroups(cn.connect, &opts, &err), 0);
	assert_int_equal(access(pin, F_OK), -1);
	assert_int_equal(cn_ask(&vip), 0);
	assert_int_equal(rmdir(below), 0);
}

static void test_detach(void **state)
{
	const char *cgroups[] = { cn.cgroup };
	struct connect_opts opts = { .cgroups = cgroups, .n_cgroups = 1 };
	_cleanup_close_ int fd = cn_socket(AF_INET, SOCK_STREAM);
	struct err err = {};
	struct lb_vip vip;
	uint32_t id;

	serve(LB_RANDOM, 1, &vip);
	id = cn_backend(cn_apply(&service), 0);
	assert_int_equal(cn_connect(fd, &vip), 0);
	assert_int_equal(connect_detach(cn.lb, &err), 0);
	assert_int_equal(cn_counts(id).conns, 0);
	assert_int_equal(cn_hear(fd), 0);
	assert_int_equal(cn_ask(&vip), -ENETUNREACH);
	cn.connect = connect_close(cn.connect);
	assert_int_equal(connect_open(cn.lb, &opts, &cn.connect, &err), 0);
	assert_int_equal(cn_ask(&vip), 0);
	/* The socket of before is unknown, and counts nothing down. */
	closep(&fd);
	fd = -1;
	cn_await_conns(id, 0);
}

static void test_other_version(void **state)
{
	struct err err = {};
	struct lb_vip vip;
	bool taken_over;
	struct lb *lb;

	serve(LB_RANDOM, 1, &vip);
	(void)cn_apply(&service);
	lb_ctl(cn.lb)->abi = LB_ABI_VERSION + 1;
	assert_int_equal(lb_open(NULL, &lb, &taken_over, &err), -EPROTO);
	assert_non_null(strstr(err.text, "waggle unload"));
	assert_int_equal(cn_ask(&vip), 0);
	lb_ctl(cn.lb)->abi = LB_ABI_VERSION;
}

static void test_no_bpffs(void **state)
{
	char dir[300];
	struct err err = {};
	bool taken_over;
	struct lb *lb;

	(void)snprintf(dir, sizeof(dir), "/tmp/waggle-cn-none-%d", getpid());
	assert_int_equal(setenv("WAGGLE_BPF_DIR", dir, 1), 0);
	assert_int_equal(lb_open(NULL, &lb, &taken_over, &err), -EINVAL);
	assert_non_null(strstr(err.text, "mount -t bpf"));
	assert_int_equal(access(dir, F_OK), -1);
	assert_int_equal(lb_unpin(&err), 0);
	assert_int_equal(setenv("WAGGLE_BPF_DIR", cn.pins, 1), 0);
}

static int apply(struct cn_service *s)
{
	struct err err = {};
	uint32_t id;

	s->spec.backends = s->backends;
	return lb_apply(cn.lb, &s->spec, &id, &err);
}

/* Tables that are full refuse a change as a whole; room comes back with what is removed. */
static void test_full(void **state)
{
	static const struct lb_limits tiny = { .services = 2, .backends = 4, .ring_entries = 251 + 2 * 16 };
	struct lb_vip vip, other = cn_vip(AF_INET, 6, IPPROTO_TCP), third = cn_vip(AF_INET, 7, IPPROTO_TCP);
	static struct cn_service second;
	uint32_t id, kept;
	int fd;

	assert_int_equal(cn_teardown(NULL), 0);
	cn_open(&tiny);
	serve(LB_ROUND_ROBIN, 6, &vip);
	service.spec.n_backends = 5;
	assert_int_equal(apply(&service), -ENOSPC);
	assert_int_equal(cn_ask(&vip), -ENETUNREACH);
	service.spec.n_backends = 3;
	id = cn_apply(&service);
	/* Backends: one is left. */
	cn_service(&second, other, LB_ROUND_ROBIN, 3, 2);
	assert_int_equal(apply(&second), -ENOSPC);
	assert_int_equal(cn_ask(&other), -ENETUNREACH);
	second.spec.n_backends = 1;
	assert_int_equal(apply(&second), 0);
	assert_int_equal(cn_ask(&other), 3);
	/* Services: none is left. */
	cn_service(&second, third, LB_ROUND_ROBIN, 3, 0);
	assert_int_equal(apply(&second), -ENOSPC);
	/* The ring: one table fits, and not a second beside it, not even for a change; the old one goes on. */
	service.spec.plan.scheduler = LB_MAGLEV;
	service.spec.table_size = 1021;
	assert_int_equal(apply(&service), -ENOSPC);
	assert_true(cn_ask(&vip) >= 0);
	service.spec.table_size = 251;
	assert_int_equal(apply(&service), 0);
	service.backends[0].weight = 2;
	assert_int_equal(apply(&service), -ENOSPC);
	assert_true(cn_ask(&vip) >= 0);
	/* An id that a connection holds is not given to another, until it has ended. */
	for (kept = 0, fd = -1; !kept;) {
		closep(&fd);
		fd = cn_socket(AF_INET, SOCK_STREAM);
		assert_int_equal(cn_connect(fd, &vip), 0);
		kept = cn_hear(fd) == 2 ? cn_backend(id, 2) : 0;
	}
	service.spec.plan.scheduler = LB_ROUND_ROBIN;
	service.backends[2] =
		(struct lb_backend_spec){ .addr = cn_servers[5].addr, .port = cn_servers[5].port, .weight = 1 };
	assert_int_equal(apply(&service), -ENOSPC);
	service.spec.n_backends = 2;
	assert_int_equal(apply(&service), 0);
	service.spec.n_backends = 3;
	assert_int_equal(apply(&service), -ENOSPC);
	closep(&fd);
	cn_await_conns(kept, 0);
	lb_collect(cn.lb);
	assert_int_equal(cn_apply(&service), id);
	assert_int_equal(cn_backend(id, 5), kept);
	assert_int_equal(cn_counts(kept).picks, 0);
	/* Removed, and made anew. */
	assert_int_equal(lb_remove(cn.lb, &vip, NULL), 0);
	assert_int_equal(lb_remove(cn.lb, &vip, NULL), -ENOENT);
	assert_int_equal(cn_ask(&vip), -ENETUNREACH);
	service.spec.vip = third;
	(void)cn_apply(&service);
	assert_true(cn_ask(&third) >= 0);
}

static void test_refused_specs(void **state)
{
	struct lb_vip vip;

	serve(LB_ROUND_ROBIN, 2, &vip);
	service.backends[1] = service.backends[0];
	assert_int_equal(apply(&service), -EEXIST);
	service.spec.n_backends = 1;
	service.spec.plan.scheduler = LB_MAGLEV;
	service.spec.table_size = 100;
	assert_int_equal(apply(&service), -EINVAL);
	service.spec.table_size = 251;
	service.backends[0].weight = RING_WEIGHT_MAX + 1;
	assert_int_equal(apply(&service), -ERANGE);
	assert_int_equal(cn_ask(&vip), -ENETUNREACH);
	service.backends[0].weight = 1;
	assert_int_equal(apply(&service), 0);
	assert_int_equal(cn_ask(&vip), 0);
}

static int count_service(uint32_t id, const struct lb_vip *vip, void *data)
{
	(*(size_t *)data)++;
	return 0;
}

/* Ten thousand services (CN_SERVICES: for slow machines) of ten backends, made, changed, taken over and removed. */
static void test_many(void **state)
{
	int n_services = getenv("CN_SERVICES") ? atoi(getenv("CN_SERVICES")) : 10000;
	static const struct lb_limits limits = { .services = 10001, .backends = 200100 };
	struct lb_backend_spec backends[10];
	struct lb_service_spec spec = { .backends = backends, .n_backends = 10 };
	struct err err = {};
	bool taken_over;
	struct lb_vip vip;
	struct load load;
	size_t n = 0;

	assert_int_equal(cn_teardown(NULL), 0);
	cn_open(&limits);
	serve(LB_ROUND_ROBIN, 2, &vip);
	(void)cn_apply(&service);
	load_start(&load, vip, false);
	spec.plan.flags = LB_PLAN_CONNECT;
	spec.plan.scheduler = LB_ROUND_ROBIN;
	for (int round = 0; round < 3; round++) {
		uint64_t start = clock_ms();

		lb_begin(cn.lb);
		for (int i = 0; i < n_services; i++) {
			uint32_t id;

			spec.vip = cn_vip(AF_INET, 1000 + i, IPPROTO_TCP);
			for (int k = 0; k < 10; k++)
				backends[k] = (struct lb_backend_spec){
					.addr = cn_vip(AF_INET, 20000 + i * 10 + k, 0).addr,
					.port = (uint16_t)(80 + (round == 2)),
					.weight = 1 + (uint32_t)(round == 1 && k == 0),
				};
			if (lb_apply(cn.lb, &spec, &id, &err) < 0)
				fail_msg("service %d: %s", i, err.text);
		}
		assert_int_equal(lb_end(cn.lb, &err), 0);
		print_message("# round %d: %llu ms\n", round, (unsigned long long)(clock_ms() - start));
	}
	cn.lb = lb_close(cn.lb);
	assert_int_equal(lb_open(NULL, &cn.lb, &taken_over, &err), 0);
	assert_int_equal(lb_each_service(cn.lb, count_service, &n), 0);
	assert_int_equal(n, n_services + 1);
	lb_begin(cn.lb);
	for (int i = 0; i < n_services; i++) {
		struct lb_vip gone = cn_vip(AF_INET, 1000 + i, IPPROTO_TCP);

		assert_int_equal(lb_remove(cn.lb, &gone, &err), 0);
	}
	assert_int_equal(lb_end(cn.lb, &err), 0);
	load_stop(&load);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_atomic, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_take_over, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_killed_in_change, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_switch_programs, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_cgroups, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_detach, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_other_version, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_no_bpffs, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_full, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_refused_specs, cn_setup, cn_teardown),
		cmocka_unit_test_setup_teardown(test_many, cn_setup, cn_teardown),
	};

	return cmocka_run_group_tests_name("connect_change", tests, cn_away, cn_home);
}
