// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a running accelerator has in the kernel, told by its process and not by names, because several may run.
 *   kernel_view stats PID      its counters, as JSON
 *   kernel_view objects PID    its programs, maps and links: "KIND ID" a line
 *   kernel_view left           reads such lines; prints those that are still there after a while; exit 1 if any
 *   kernel_view hold CGROUP    attaches a sock_ops program that shares the hook with nobody, until killed
 */
#include <errno.h>

#include <bpf/bpf.h>

#include <fcntl.h>
#include <linux/bpf.h>

#include "stats.h"
#include "base/clock.h"

#define LEFT_MS 3000

static void print_object(const char *kind, unsigned int id, void *data)
{
	printf("%s %u\n", kind, id);
}

static int do_stats(pid_t pid)
{
	static const char *const words[] = {
#define X(id, word, text) word,
		AC_STAT_LIST(X)
#undef X
	};
	int fd = stats_open(pid);

	if (fd < 0)
		tool_die("process %d has no counters", (int)pid);
	for (uint32_t i = 0; i < _AC_STAT_MAX; i++)
		printf("%s\"%s\": %llu", i ? ", " : "{", words[i], (unsigned long long)stats_read(fd, i));
	printf("}\n");
	return 0;
}

static bool is_alive(const char *kind, unsigned int id)
{
	_cleanup_close_ int fd = streq(kind, "prog") ? bpf_prog_get_fd_by_id(id) :
				 streq(kind, "map")  ? bpf_map_get_fd_by_id(id) :
						       bpf_link_get_fd_by_id(id);

	return fd >= 0;
}

/* The kernel frees such objects a little after the last reference went. */
static int do_left(void)
{
	uint64_t until = clock_ms() + LEFT_MS;
	unsigned int id;
	char kind[8];
	int left = 0, n = 0;

	while (scanf("%7s %u", kind, &id) == 2) {
		n++;
		while (is_alive(kind, id) && clock_ms() < until)
			tool_sleep_us(20000);
		if (is_alive(kind, id)) {
			printf("%s %u\n", kind, id);
			left++;
		}
	}
	if (!n)
		tool_die("nothing was given to look for");
	return left ? 1 : 0;
}

static int do_hold(const char *cgroup)
{
	/* r0 = 1; exit */
	static const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	_cleanup_close_ int dir = open(cgroup, O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int prog =
		bpf_prog_load(BPF_PROG_TYPE_SOCK_OPS, "test_hold", "GPL", insns, ARRAY_SIZE(insns), NULL);

	if (dir < 0 || prog < 0 || bpf_prog_attach(prog, dir, BPF_CGROUP_SOCK_OPS, 0))
		tool_die("cannot hold '%s': %s", cgroup, strerror(errno));
	printf("holding\n");
	(void)fflush(stdout);
	for (;;)
		(void)pause();
}

int main(int argc, char **argv)
{
	tool_init("kernel_view");
	if (argc == 3 && streq(argv[1], "stats"))
		return do_stats((pid_t)tool_number("stats", argv[2], 1, 1 << 22));
	if (argc == 2 && streq(argv[1], "left"))
		return do_left();
	if (argc == 3 && streq(argv[1], "hold"))
		return do_hold(argv[2]);
	if (argc != 3 || !streq(argv[1], "objects"))
		tool_usage("usage: kernel_view stats PID | objects PID | left | hold CGROUP");
	objects_each((pid_t)tool_number("objects", argv[2], 1, 1 << 22), print_object, NULL);
	return 0;
}
