// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What this kernel can do, found out by doing it: joins the two ends of a connection in a namespace of its own
 * and looks at what arrives. A child does it, so that the caller's namespace is never left.
 */
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "base/log.h"
#include "hook/accel.h"
#include "probe.skel.h"
#include "sys/bpf.h"

#define PROBE_WAIT_MS 1000

/* Exit codes of the child. */
enum {
	PROBE_OK,
	PROBE_NO_FIONREAD, /* all is well but that FIONREAD misses joined bytes */
	PROBE_NO_SOCKETS,  /* the connection could not even be made */
	PROBE_NO_REDIRECT,
	PROBE_NO_ONE_QUEUE,
};

static int probe_loopback_up(void)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };

	return fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
}

static int probe_pair(int *ret_client, int *ret_server)
{
	_cleanup_close_ int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_cleanup_close_ int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int server;

	if (listener < 0 || client < 0 || bind(listener, (struct sockaddr *)&addr, len) < 0 ||
	    listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *)&addr, &len) < 0 ||
	    connect(client, (struct sockaddr *)&addr, len) < 0)
		return -errno;
	server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (server < 0)
		return -errno;
	*ret_client = TAKE_FD(client);
	*ret_server = server;
	return 0;
}

/* Waits until fd can be read, and reads; did just these bytes come? FIONREAD's answer is compared on the way. */
static bool probe_expect(int fd, int bytes, bool *fionread)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char buf[256];
	int queued = -1;

	if (poll(&p, 1, PROBE_WAIT_MS) != 1 || ioctl(fd, FIONREAD, &queued) < 0)
		return false;
	*fionread &= queued == bytes;
	return recv(fd, buf, sizeof(buf), MSG_DONTWAIT) == bytes;
}

static int probe_child(struct probe_skel *skel)
{
	static const char bytes[100];
	uint32_t zero = 0, one = 1;
	int client = -1, server = -1;
	bool fionread = true;
	uint64_t fds[2];

	if (unshare(CLONE_NEWNET) < 0 || probe_loopback_up() < 0 || probe_pair(&client, &server) < 0)
		return PROBE_NO_SOCKETS;
	fds[0] = (uint64_t)client;
	fds[1] = (uint64_t)server;
	if (bpf_map_update_elem(bpf_map__fd(skel->maps.probe_socks), &zero, &fds[0], BPF_ANY) ||
	    bpf_map_update_elem(bpf_map__fd(skel->maps.probe_socks), &one, &fds[1], BPF_ANY))
		return PROBE_NO_REDIRECT;
	skel->bss->probe_redirect = 1;
	if (send(client, bytes, 100, MSG_NOSIGNAL) != 100 || !probe_expect(server, 100, &fionread))
		return PROBE_NO_REDIRECT;
	/* TCP after joined bytes: where copied_seq counts them too, the reader is never woken for these. */
	skel->bss->probe_redirect = 0;
	if (send(client, bytes, 50, MSG_NOSIGNAL) != 50 || !probe_expect(server, 50, &fionread))
		return PROBE_NO_ONE_QUEUE;
	/* Both kinds at once, counted together. */
	if (send(client, bytes, 20, MSG_NOSIGNAL) != 20)
		return PROBE_NO_ONE_QUEUE;
	skel->bss->probe_redirect = 1;
	if (send(client, bytes, 30, MSG_NOSIGNAL) != 30 || !probe_expect(server, 50, &fionread))
		return PROBE_NO_ONE_QUEUE;
	return fionread ? PROBE_OK : PROBE_NO_FIONREAD;
}

/* Runs the child; its exit code, or -errno. */
static int probe_run(struct probe_skel *skel)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (pid == 0)
		_exit(probe_child(skel));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

/* Two instructions (return 0), as fentry of the function that the accelerator watches. */
static bool probe_fentry(void)
{
	struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_TRACE_FENTRY);
	_cleanup_close_ int prog = -1, link = -1;
	int id = libbpf_find_vmlinux_btf_id("tcp_splice_read", BPF_TRACE_FENTRY);

	if (id <= 0)
		return false;
	opts.attach_btf_id = (uint32_t)id;
	prog = bpf_prog_load(BPF_PROG_TYPE_TRACING, "probe_fentry", "GPL", insns, ARRAY_SIZE(insns), &opts);
	if (prog < 0)
		return false;
	link = bpf_raw_tracepoint_open(NULL, prog);
	return link >= 0;
}

static void probe_skel_closep(struct probe_skel **skel)
{
	probe_skel__destroy(*skel);
}

static int probe_open(struct probe_skel **ret, struct err *err)
{
	_cleanup_(probe_skel_closep) struct probe_skel *skel = probe_skel__open();
	int r, map_fd;

	if (!skel)
		return err_set(err, -errno, "cannot open the BPF probe: %s", strerror(errno));
	(void)bpf_program__set_expected_attach_type(skel->progs.probe_skb, BPF_SK_SKB_VERDICT);
	r = probe_skel__load(skel);
	if (r == -EPERM)
		return err_set(err, r,
			       "not permitted to load BPF programs: run as root, or with CAP_BPF, CAP_PERFMON, "
			       "CAP_NET_ADMIN and CAP_SYS_ADMIN");
	if (r < 0 && access("/sys/kernel/btf/vmlinux", R_OK) < 0)
		return err_set(err, r,
			       "this kernel has no type information (/sys/kernel/btf/vmlinux): use one built with "
			       "CONFIG_DEBUG_INFO_BTF, as Debian's are");
	if (r < 0)
		return err_set(err, r,
			       "this kernel is too old or lacks what sockmaps need: Linux 6.1 or later is needed (%s)",
			       bpf_sys_last());
	map_fd = bpf_map__fd(skel->maps.probe_socks);
	if (bpf_prog_attach(bpf_program__fd(skel->progs.probe_msg), map_fd, BPF_SK_MSG_VERDICT, 0) ||
	    bpf_prog_attach(bpf_program__fd(skel->progs.probe_skb), map_fd, BPF_SK_SKB_VERDICT, 0))
		return err_set(err, -errno, "this kernel cannot attach programs to a sockmap: %s", strerror(errno));
	*ret = TAKE_PTR(skel);
	return 0;
}

static bool probe_has(const char *func)
{
	return libbpf_find_vmlinux_btf_id(func, BPF_TRACE_FENTRY) > 0;
}

/* Does tcp_ioctl() write its answer to user memory, so that it can be completed? Its third argument tells. */
static bool probe_fionread_patch(void)
{
	struct btf *btf = btf__load_vmlinux_btf();
	const struct btf_type *t;
	bool user = false;
	int id;

	if (!btf)
		return false;
	id = btf__find_by_name_kind(btf, "tcp_ioctl", BTF_KIND_FUNC);
	if (id > 0) {
		t = btf__type_by_id(btf, btf__type_by_id(btf, (uint32_t)id)->type);
		user = btf_vlen(t) == 3 && btf_is_int(btf__type_by_id(btf, btf_params(t)[2].type));
	}
	btf__free(btf);
	return user;
}

/* What is missing decides the class; the sentence says what follows from it. */
static void probe_judge(struct accel_probe *p)
{
	const char *reason = "";

	p->class = ACCEL_REFUSED;
	if (!p->one_queue) {
		reason =
			"this kernel loses or miscounts TCP bytes that follow joined ones (the copied_seq fix of 2026 is "
			"missing), so nothing is joined: update the kernel";
	} else if (!p->fionread && !(p->fentry && p->fionread_patch)) {
		reason =
			"this kernel's FIONREAD misses joined bytes, which stalls programs such as nginx, so nothing is joined: "
			"update the kernel";
	} else if (!p->fentry) {
		p->class = ACCEL_LIMITED;
		reason =
			"this kernel refuses fentry programs, so programs that could read sockets by splice(2) stay on TCP";
	} else {
		p->class = ACCEL_FULL;
	}
	(void)snprintf(p->reason, sizeof(p->reason), "%s", reason);
}

int accel_probe(struct accel_probe *ret, struct err *err)
{
	_cleanup_(probe_skel_closep) struct probe_skel *skel = NULL;
	struct accel_probe p = {};
	int r;

	r = probe_open(&skel, err);
	if (r < 0)
		return r;
	r = probe_run(skel);
	if (r < 0)
		return err_set(err, r, "cannot try this kernel's sockmaps: %s", strerror(-r));
	if (r == PROBE_NO_SOCKETS)
		return err_set(err, -EIO, "cannot make a network namespace to try this kernel in: run as root");
	p.one_queue = r == PROBE_OK || r == PROBE_NO_FIONREAD;
	p.fionread = r == PROBE_OK;
	p.fionread_patch = probe_fionread_patch();
	p.fentry = probe_fentry();
	p.recv_flags = libbpf_find_vmlinux_btf_id("sock_recv_length", BPF_TRACE_RAW_TP) > 0;
	p.cast = probe_has("bpf_rdonly_cast");
	p.sock_destroy = probe_has("bpf_sock_destroy");
	probe_judge(&p);
	*ret = p;
	return 0;
}
