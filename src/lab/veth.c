// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sys/syscall.h>

#include "lab/lab.h"
#include "lab/prog.h"
#include "sys/proc.h"

#define ETHTOOL_MS 5000

static int set_checksums(const struct lab *lab, const char *but, const char *value, struct err *err)
{
	const char *const argv[] = { "ethtool", "-K", "eth0", "tx", value, NULL };
	int r = 0;

	for (size_t i = 0; r >= 0 && i < lab->n_hosts; i++) {
		const struct prog_spec spec = { .argv = argv, .netns_fd = lab->netns_fd[i], .cgroup_fd = -1 };

		if (!streq(lab->hosts[i].name, but))
			r = prog_run(&spec, ETHTOOL_MS, err);
	}
	return r;
}

static int sys_bpf(int cmd, union bpf_attr *attr)
{
	int r = (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));

	return r < 0 ? -errno : r;
}

/* return XDP_PASS; too small to be worth an object. */
static int load_pass(void)
{
	static const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_XDP,
		.insns = (uintptr_t)insns,
		.insn_cnt = ARRAY_SIZE(insns),
		.license = (uintptr_t) "GPL",
		.prog_name = "lab_pass",
		.expected_attach_type = BPF_XDP,
	};

	return sys_bpf(BPF_PROG_LOAD, &attr);
}

/* The link holds the program, and is gone with its fd. */
static int attach(int prog, const char *ifname)
{
	union bpf_attr attr = {
		.link_create = {
			.prog_fd = (__u32)prog,
			.target_ifindex = if_nametoindex(ifname),
			.attach_type = BPF_XDP,
		},
	};

	return attr.link_create.target_ifindex ? sys_bpf(BPF_LINK_CREATE, &attr) : -ENODEV;
}

static int pass_on(const struct lab *lab, const char *host)
{
	_cleanup_close_ int netns = -1, prog = -1;
	char path[128];
	int was, r;

	(void)snprintf(path, sizeof(path), "/run/netns/%s-net", lab->name);
	netns = open(path, O_RDONLY | O_CLOEXEC);
	if (netns < 0)
		return -errno;
	prog = load_pass();
	if (prog < 0)
		return prog;
	was = netns_enter(netns);
	if (was < 0)
		return was;
	r = attach(prog, host);
	netns_return(was);
	return r;
}

int lab_xdp_begin(const struct lab *lab, const char *host, int *ret_fd, struct err *err)
{
	int r = set_checksums(lab, host, "off", err);

	*ret_fd = -1;
	if (r < 0)
		return r;
	r = pass_on(lab, host);
	if (r < 0)
		return err_set(err, r, "cannot make the lab fit for XDP: %s", strerror(-r));
	*ret_fd = r;
	return 0;
}

int lab_xdp_end(const struct lab *lab, const char *host, int *fd, struct err *err)
{
	closep(fd);
	*fd = -1;
	return set_checksums(lab, host, "on", err);
}
