// SPDX-License-Identifier: GPL-2.0-or-later
#include "fx.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/stat.h>

#include "place.h"
#include "sys/cgroup.h"
#include "sys/proc.h"

struct fx fx;

static char cgroup_dir[512], cgroup_before[1024];
static int netns_before = -1, cgroup_fd = -1;

int fx_away(void **state)
{
	_cleanup_free_ char *root = NULL;
	struct err err = {};

	if (cgroup_root(&root, &err) < 0 || place_find_cgroup(cgroup_before, sizeof(cgroup_before)) < 0) {
		print_error("%s\n", err.text);
		return -1;
	}
	(void)snprintf(cgroup_dir, sizeof(cgroup_dir), "%s/waggle-bpf-%d", root, getpid());
	netns_before = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (mkdir(cgroup_dir, 0755) < 0 || place_enter_cgroup(cgroup_dir) < 0 || unshare(CLONE_NEWNET) < 0 ||
	    place_loopback_up() < 0) {
		print_error("cannot make a cgroup and a namespace: %s: run as root\n", strerror(errno));
		return -1;
	}
	cgroup_fd = open(cgroup_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return cgroup_fd < 0 ? -1 : 0;
}

int fx_home(void **state)
{
	closep(&cgroup_fd);
	if (setns(netns_before, CLONE_NEWNET) < 0 || place_enter_cgroup(cgroup_before) < 0)
		return -1;
	closep(&netns_before);
	return rmdir(cgroup_dir);
}

/* The program that sees the flags of recv(2); kernels without the tracepoint (before 6.3) have fentry. */
static const char *recv_watcher(void)
{
	return libbpf_find_vmlinux_btf_id("sock_recv_length", BPF_TRACE_RAW_TP) > 0 ? "ac_recv_flags" :
										      "ac_recv_fentry";
}

struct bpf_object *fx_object(void)
{
	const char *path = getenv("ACCEL_OBJECT");
	struct bpf_program *prog;
	struct bpf_object *obj;

	if (!path)
		fail_msg("ACCEL_OBJECT is not set: run this with 'meson test'");
	obj = bpf_object__open_file(path, NULL);
	assert_non_null(obj);
	/* Trampolines are what some hosts refuse; the rest is loaded everywhere. */
	bpf_object__for_each_program(prog, obj) {
		const char *section = bpf_program__section_name(prog);

		if (strstr(bpf_program__name(prog), "ac_recv_"))
			assert_int_equal(bpf_program__set_autoload(prog,
								   streq(bpf_program__name(prog), recv_watcher())),
					 0);
		else if (!strncmp(section, "fentry/", 7) || !strncmp(section, "fexit/", 6) ||
			 !strncmp(section, "fmod_ret/", 9))
			assert_int_equal(bpf_program__set_autoload(prog, false), 0);
	}
	assert_int_equal(bpf_program__set_expected_attach_type(bpf_object__find_program_by_name(obj, "ac_skb"),
							       BPF_SK_SKB_VERDICT),
			 0);
	return obj;
}

static int map_fd(const char *name)
{
	int fd = bpf_object__find_map_fd_by_name(fx.obj, name);

	assert_true(fd >= 0);
	return fd;
}

static int prog_fd(const char *name)
{
	int fd = bpf_program__fd(bpf_object__find_program_by_name(fx.obj, name));

	assert_true(fd >= 0);
	return fd;
}

/* As the kernel names it; asked of the programs themselves, for stat(2) may name another device (overlayfs). */
static struct ac_exe_key own_exe(void)
{
	struct bpf_link *link =
		bpf_program__attach_iter(bpf_object__find_program_by_name(fx.obj, "ac_walk_exes"), NULL);
	struct ac_exe_key key = {};
	struct ac_task_exe rec;
	int fd;

	assert_non_null(link);
	fd = bpf_iter_create(bpf_link__fd(link));
	assert_true(fd >= 0);
	while (read(fd, &rec, sizeof(rec)) == sizeof(rec))
		if ((pid_t)rec.pid == getpid())
			key = rec.exe;
	(void)close(fd);
	(void)bpf_link__destroy(link);
	assert_true(key.ino > 0);
	return key;
}

void fx_trust(enum ac_exe_state exe_state)
{
	/* As with --trust: the tests of other things may sleep in recv(2). */
	struct ac_exe exe = { .state = exe_state, .forced = exe_state == AC_EXE_TRUSTED, .comm = "test" };

	assert_int_equal(bpf_map_update_elem(fx.exes, &fx.exe, &exe, BPF_ANY), 0);
}

void fx_ctl(uint32_t on, uint32_t select)
{
	/* With a living owner, so that no waggle that starts meanwhile sweeps this up. */
	struct ac_ctl ctl = {
		.version = AC_ABI_VERSION,
		.on = on,
		.select = select,
		.exclude = 1,
		.limit_bytes = 2 << 20,
		.owner_pid = (uint64_t)getpid(),
		.owner_start = proc_start_time(getpid()),
	};
	uint32_t zero = 0;

	assert_int_equal(bpf_map_update_elem(fx.ctl, &zero, &ctl, BPF_ANY), 0);
}

void fx_load_with(uint32_t max_sockets)
{
	fx.obj = fx_object();
	if (max_sockets)
		assert_int_equal(bpf_map__set_max_entries(bpf_object__find_map_by_name(fx.obj, "ac_socks"),
							  max_sockets),
				 0);
	assert_int_equal(bpf_object__load(fx.obj), 0);
	fx.socks = map_fd("ac_socks");
	fx.sk = map_fd("ac_sk");
	fx.pend = map_fd("ac_pend");
	fx.peers = map_fd("ac_peers");
	fx.listen = map_fd("ac_listen");
	fx.exes = map_fd("ac_exes");
	fx.ports = map_fd("ac_ports");
	fx.ctl = map_fd("ac_ctl");
	fx.odd = map_fd("ac_odd");
	fx.exe = own_exe();
	fx_trust(AC_EXE_TRUSTED);
	fx_ctl(1, 0);
	assert_int_equal(bpf_prog_attach(prog_fd("ac_msg"), fx.socks, BPF_SK_MSG_VERDICT, 0), 0);
	assert_int_equal(bpf_prog_attach(prog_fd("ac_skb"), fx.socks, BPF_SK_SKB_VERDICT, 0), 0);
	fx.sockops = bpf_program__attach_cgroup(bpf_object__find_program_by_name(fx.obj, "ac_sockops"), cgroup_fd);
	assert_non_null(fx.sockops);
}

int fx_load(void **state)
{
	fx_load_with(0);
	return 0;
}

void fx_attach_watchers(void)
{
	const char *const names[] = { "ac_splice_tp", recv_watcher() };
	int n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		fx.watchers[n] = bpf_program__attach(bpf_object__find_program_by_name(fx.obj, names[i]));
		assert_non_null(fx.watchers[n++]);
	}
	fx.watchers[n] =
		bpf_program__attach_cgroup(bpf_object__find_program_by_name(fx.obj, "ac_setsockopt"), cgroup_fd);
	assert_non_null(fx.watchers[n]);
}

int fx_unload(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(fx.watchers); i++)
		(void)bpf_link__destroy(fx.watchers[i]);
	(void)bpf_link__destroy(fx.sockops);
	bpf_object__close(fx.obj);
	fx = (struct fx){};
	return 0;
}

uint64_t fx_stat(enum ac_stat stat)
{
	int n_cpus = libbpf_num_possible_cpus(), fd = map_fd("ac_stats");
	_cleanup_free_ uint64_t *v = calloc((size_t)n_cpus, sizeof(*v));
	uint32_t i = stat;
	uint64_t sum = 0;

	assert_non_null(v);
	assert_int_equal(bpf_map_lookup_elem(fd, &i, v), 0);
	for (int c = 0; c < n_cpus; c++)
		sum += v[c];
	return sum;
}

/* Keys of this map are of eight bytes. */
size_t fx_count(int fd)
{
	uint64_t key, next;
	size_t n = 0;

	for (bool first = true; !bpf_map_get_next_key(fd, first ? NULL : &key, &next); first = false, key = next)
		n++;
	return n;
}

uint64_t fx_cookie(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
	return cookie;
}

bool fx_in_map(int fd)
{
	uint64_t cookie = fx_cookie(fd), value;

	return !bpf_map_lookup_elem(fx.socks, &cookie, &value);
}

bool fx_sock(int fd, struct ac_sock *ret)
{
	return !bpf_map_lookup_elem(fx.sk, &fd, ret);
}

bool fx_is_joined(int fd)
{
	struct ac_sock st;
	bool joined = fx_sock(fd, &st) && st.state == AC_SOCK_JOINED;

	assert_int_equal(joined, fx_in_map(fd));
	return joined;
}

/* The place of these numbers, and their way in it: the one that has them, else a free one. True: it has them. */
static bool pend_way(const struct ac_key *key, uint32_t *ret_place, struct ac_pends *ret, int *ret_way)
{
	*ret_place = key->server_seq & (AC_PEND_PLACES - 1);
	*ret_way = -1;
	assert_int_equal(bpf_map_lookup_elem(fx.pend, ret_place, ret), 0);
	for (int i = 0; i < AC_PEND_WAYS; i++) {
		if (ret->born[i] && !memcmp(&ret->key[i], key, sizeof(*key))) {
			*ret_way = i;
			return true;
		}
		if (!ret->born[i])
			*ret_way = i;
	}
	return false;
}

bool fx_pend_get(const struct ac_key *key, struct ac_pend *ret)
{
	struct ac_pends pends;
	uint32_t place;
	int way;

	if (!pend_way(key, &place, &pends, &way))
		return false;
	*ret = pends.of[way];
	return true;
}

void fx_pend_put(const struct ac_key *key, const struct ac_pend *pend)
{
	struct ac_pends pends;
	uint32_t place;
	int way;

	(void)pend_way(key, &place, &pends, &way);
	assert_true(way >= 0);
	pends.key[way] = *key;
	pends.of[way] = *pend;
	pends.born[way] = 1;
	assert_int_equal(bpf_map_update_elem(fx.pend, &place, &pends, BPF_EXIST), 0);
}

void fx_pend_drop(const struct ac_key *key)
{
	struct ac_pends pends;
	uint32_t place;
	int way;

	assert_true(pend_way(key, &place, &pends, &way));
	pends.born[way] = 0;
	assert_int_equal(bpf_map_update_elem(fx.pend, &place, &pends, BPF_EXIST), 0);
}

void fx_pends(struct ac_pends ret[AC_PEND_PLACES])
{
	static uint32_t places[AC_PEND_PLACES];
	uint32_t next = 0, n = AC_PEND_PLACES;

	/* ENOENT is the end of the map. */
	assert_true(!bpf_map_lookup_batch(fx.pend, NULL, &next, places, ret, &n, NULL) || errno == ENOENT);
	assert_int_equal(n, AC_PEND_PLACES);
}

/* How many there are; one of them in ret_key and ret. */
static size_t pend_find(struct ac_key *ret_key, struct ac_pend *ret)
{
	static struct ac_pends pends[AC_PEND_PLACES];
	size_t n = 0;

	fx_pends(pends);
	for (size_t place = 0; place < AC_PEND_PLACES; place++)
		for (int i = 0; i < AC_PEND_WAYS; i++) {
			if (!pends[place].born[i])
				continue;
			*ret_key = pends[place].key[i];
			*ret = pends[place].of[i];
			n++;
		}
	return n;
}

size_t fx_pend_count(void)
{
	struct ac_pend pend;
	struct ac_key key;

	return pend_find(&key, &pend);
}

struct ac_key fx_the_pend(struct ac_pend *ret)
{
	struct ac_key key = {};

	assert_int_equal(pend_find(&key, ret), 1);
	return key;
}

void fx_sysctl(const char *path, const char *value)
{
	char full[256];

	(void)snprintf(full, sizeof(full), "/proc/sys/net/%s", path);
	assert_int_equal(place_write(full, value), 0);
}

int fx_lose(enum bpf_attach_type way, uint8_t mask, uint8_t want)
{
	enum { FLAGS = 20 + 13 }; /* TCP's flags behind an IPv4 header without options */
	struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1 },
		{ .code = BPF_LDX | BPF_MEM | BPF_W,
		  .dst_reg = BPF_REG_2,
		  .src_reg = BPF_REG_1,
		  .off = offsetof(struct __sk_buff, data) },
		{ .code = BPF_LDX | BPF_MEM | BPF_W,
		  .dst_reg = BPF_REG_3,
		  .src_reg = BPF_REG_1,
		  .off = offsetof(struct __sk_buff, data_end) },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_4, .src_reg = BPF_REG_2 },
		{ .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = BPF_REG_4, .imm = FLAGS + 1 },
		{ .code = BPF_JMP | BPF_JGT | BPF_X, .dst_reg = BPF_REG_4, .src_reg = BPF_REG_3, .off = 4 },
		{ .code = BPF_LDX | BPF_MEM | BPF_B, .dst_reg = BPF_REG_5, .src_reg = BPF_REG_2, .off = FLAGS },
		{ .code = BPF_ALU64 | BPF_AND | BPF_K, .dst_reg = BPF_REG_5, .imm = mask },
		{ .code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = BPF_REG_5, .imm = want, .off = 1 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = way);
	_cleanup_close_ int prog =
		bpf_prog_load(BPF_PROG_TYPE_CGROUP_SKB, "fx_lose", "GPL", insns, ARRAY_SIZE(insns), &opts);
	int link;

	assert_true(prog >= 0);
	link = bpf_link_create(prog, cgroup_fd, way, NULL);
	assert_true(link >= 0);
	return link;
}

int fx_tcp(int family, int protocol)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, protocol);
	struct timeval patience = { .tv_sec = 5 };

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	return fd;
}

int fx_listen(int family, int protocol, struct sockaddr_storage *ret_addr, socklen_t *ret_len)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd = fx_tcp(family, protocol);

	*ret_len = family == AF_INET ? sizeof(v4) : sizeof(v6);
	memcpy(ret_addr, family == AF_INET ? (void *)&v4 : (void *)&v6, *ret_len);
	assert_int_equal(bind(fd, (struct sockaddr *)ret_addr, *ret_len), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)ret_addr, ret_len), 0);
	return fd;
}

int fx_connect(int fd, const struct sockaddr_storage *addr, socklen_t len)
{
	return connect(fd, (const struct sockaddr *)addr, len) < 0 ? -errno : 0;
}

int fx_accept(int listener)
{
	struct timeval patience = { .tv_sec = 5 };
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	return fd;
}

void fx_pair(int family, int *ret_client, int *ret_server)
{
	struct sockaddr_storage addr;
	_cleanup_close_ int listener = -1;
	socklen_t len;

	listener = fx_listen(family, 0, &addr, &len);
	*ret_client = fx_tcp(family, 0);
	assert_int_equal(fx_connect(*ret_client, &addr, len), 0);
	*ret_server = fx_accept(listener);
}

void fx_wait(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	assert_int_equal(poll(&p, 1, 5000), 1);
}

static void send_pattern(int fd, unsigned char *buf, size_t n, unsigned int seed)
{
	for (size_t i = 0; i < n; i++)
		buf[i] = (unsigned char)(seed + i * 7 + (i >> 8));
	assert_int_equal(send(fd, buf, n, MSG_NOSIGNAL), n);
}

static void expect_pattern(int fd, unsigned char *buf, size_t n, unsigned int seed)
{
	size_t have = 0;

	while (have < n) {
		ssize_t r;

		/* A recv that would block may end with EAGAIN on a joined socket; test/conform tells of that. */
		fx_wait(fd, POLLIN);
		r = recv(fd, buf + have, n - have, 0);
		if (r < 0 && errno == EAGAIN)
			continue;
		if (r <= 0)
			fail_msg("recv: %zd (%s) after %zu of %zu bytes", r, strerror(errno), have, n);
		have += (size_t)r;
	}
	for (size_t i = 0; i < n; i++)
		if (buf[i] != (unsigned char)(seed + i * 7 + (i >> 8)))
			fail_msg("byte %zu of %zu is wrong", i, n);
}

void fx_exchange(int a, int b)
{
	static const size_t sizes[] = { 1, 100, 1448, 4096, 30000 };
	static unsigned char buf[1 << 16];

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		send_pattern(a, buf, sizes[i], i);
		expect_pattern(b, buf, sizes[i], i);
		send_pattern(b, buf, sizes[i], i + 100);
		expect_pattern(a, buf, sizes[i], i + 100);
	}
	/* Several sends before the first read. */
	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++)
		send_pattern(a, buf, sizes[i], i + 50);
	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++)
		expect_pattern(b, buf, sizes[i], i + 50);
}
