// SPDX-License-Identifier: GPL-2.0-or-later
/* What this machine lets waggle do, found out by trying where that is safe, and how to get the rest. Needs no daemon. */
#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#include "cmd/cmd.h"
#include "ctl/client.h"
#include "ctl/render.h"
#include "hook/accel.h"
#include "hook/packet.h"
#include "model/wire.h"
#include "sys/bpf.h"
#include "sys/caps.h"
#include "sys/cgroup.h"
#include "sys/proc.h"

#define BTF_PATH "/sys/kernel/btf/vmlinux"
#define NEEDS_MAX 8

struct doctor_args {
	bool json;
};

static const struct opt doctor_opts[] = {
	{ "json", OPT_FLAG, NULL, "as JSON", offsetof(struct doctor_args, json), 0, 0 },
	{ 0 },
};

static const char *const class_words[] = {
	[ACCEL_FULL] = "full",
	[ACCEL_LIMITED] = "limited",
	[ACCEL_REFUSED] = "refused",
};

struct doctor {
	struct accel_probe probe;
	bool probed;
	struct err err; /* why not */
	struct utsname uts;
	char kernel[160];
	char *cgroup;
	char lacking[CAPS_LACKING_MAX]; /* names of capabilities */
	char privilege_remedy[128];
	struct wire_need needs[NEEDS_MAX];
	size_t n_needs;
	pid_t pid;
	uint64_t dead;
	bool dead_known;
	json_t *reply; /* of /v1/executables */
	struct packet_attach *nics;
	size_t n_nics;
	struct err nics_err; /* why they are not known */
};

static void doctor_privileges(struct doctor *d)
{
	caps_lacking(d->lacking, sizeof(d->lacking));
	(void)snprintf(d->privilege_remedy, sizeof(d->privilege_remedy), "run as root (missing: %s)", d->lacking);
}

static void doctor_need(struct doctor *d, const char *name, bool has, const char *means, const char *remedy)
{
	d->needs[d->n_needs++] = (struct wire_need){ .name = name, .has = has, .means = means, .remedy = remedy };
}

/* What could not be tried is not claimed either way. */
static void doctor_needs(struct doctor *d)
{
	doctor_need(d, "privileges", !d->lacking[0], "may load BPF programs and look into every network namespace",
		    d->privilege_remedy);
	doctor_need(d, "btf", access(BTF_PATH, R_OK) == 0, "the kernel describes its own structures (" BTF_PATH ")",
		    "use a kernel built with CONFIG_DEBUG_INFO_BTF, as Debian's are");
	doctor_need(d, "cgroup-v2", d->cgroup, "connections are seen per cgroup",
		    "mount a tree with 'mount -t cgroup2 none /sys/fs/cgroup/unified'");
	if (!d->probed)
		return;
	doctor_need(d, "one-queue", d->probe.one_queue,
		    "TCP's bytes and joined bytes share one receive queue, and are counted right",
		    "update to a kernel with the sockmap copied_seq fix of 2026");
	doctor_need(d, "fionread", d->probe.fionread || (d->probe.fionread_patch && d->probe.fentry),
		    d->probe.fionread ? "FIONREAD counts joined bytes" :
					"FIONREAD's answer is completed on its way out",
		    "update to a kernel whose sockmaps have an ioctl of their own (2026)");
	doctor_need(d, "fentry", d->probe.fentry,
		    "a program that reads by splice(2) is seen in time, so every program can be learned",
		    "use a kernel with CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS that lets root attach fentry programs; until "
		    "then programs that could splice stay on TCP");
	doctor_need(d, "sock-destroy", d->probe.sock_destroy,
		    "a connection that can no longer be put right is reset, not left waiting",
		    "use Linux 6.5 or later");
	doctor_need(d, "cast", d->probe.cast, "a peer's backlog is read by plain loads, the cheaper way",
		    "use Linux 6.2 or later");
}

static int count_dead(int fd, uint32_t id, void *data)
{
	const struct ac_ctl *ctl = mmap(NULL, sizeof(*ctl), PROT_READ, MAP_SHARED, fd, 0);
	uint64_t *dead = data, start;

	(void)id;
	if (ctl == MAP_FAILED)
		return 0;
	start = proc_start_time((pid_t)ctl->owner_pid);
	*dead += !start || start != ctl->owner_start;
	(void)munmap((void *)ctl, sizeof(*ctl));
	return 0;
}

static void doctor_look(struct doctor *d)
{
	struct err err;

	d->probed = accel_probe(&d->probe, &d->err) >= 0;
	if (!d->probed)
		d->probe = (struct accel_probe){ .class = ACCEL_REFUSED };
	if (uname(&d->uts) == 0)
		(void)snprintf(d->kernel, sizeof(d->kernel), "%s %s", d->uts.release, d->uts.machine);
	(void)cgroup_root(&d->cgroup, NULL);
	doctor_privileges(d);
	doctor_needs(d);
	(void)packet_foresee(&d->nics, &d->n_nics, &d->nics_err);
	if (ctl_pid(&d->pid, &err) >= 0)
		(void)ctl_call("/v1/executables", NULL, &d->reply, &err);
	d->dead_known = bpf_sys_each_map("ac_ctl", count_dead, &d->dead) >= 0;
}

static const char *doctor_reason(const struct doctor *d)
{
	return d->probed ? d->probe.reason : d->err.text;
}

static int doctor_json(const struct doctor *d)
{
	_cleanup_free_ struct wire_nic *nics = calloc(d->n_nics + 1, sizeof(*nics));
	struct wire_doctor w = {
		.class = class_words[d->probe.class],
		.reason = doctor_reason(d),
		.kernel = d->kernel,
		.cgroup = d->cgroup,
		.needs = d->needs,
		.n_needs = d->n_needs,
		.pid = d->pid,
		.dead = d->dead,
		.programs = json_object_get(d->reply, "executables"),
		.nics = nics,
		.n_nics = d->n_nics,
	};
	json_t *o;
	bool ok;

	if (!nics)
		return -ENOMEM;
	for (size_t i = 0; i < d->n_nics; i++)
		nics[i] = (struct wire_nic){ d->nics[i].name, d->nics[i].hook, d->nics[i].why };
	o = wire_doctor(&w);
	ok = o && json_dumpf(o, stdout, JSON_INDENT(2)) == 0 && putchar('\n') != EOF;
	json_decref(o);
	return ok ? 0 : -ENOMEM;
}

static void doctor_text(const struct doctor *d)
{
	struct err err;

	printf("class         %s\n", class_words[d->probe.class]);
	if (doctor_reason(d)[0])
		printf("              %s\n", doctor_reason(d));
	printf("kernel        %s\n", d->kernel);
	printf("cgroup v2     %s\n\n", d->cgroup ? d->cgroup : "not mounted");
	for (size_t i = 0; i < d->n_needs; i++) {
		const struct wire_need *need = &d->needs[i];

		printf("%-12s  %-3s  %s\n", need->name, need->has ? "yes" : "no", need->means);
		if (!need->has)
			printf("%-12s       to get it: %s\n", "", need->remedy);
	}
	printf("\ninterfaces    with 'hook: auto', as packets of services would be seen%s%s\n",
	       d->nics_err.text[0] ? ": " : "", d->nics_err.text);
	for (size_t i = 0; i < d->n_nics; i++)
		printf("  %-15s  %-4s  %s\n", d->nics[i].name, d->nics[i].hook, d->nics[i].why);
	if (!d->n_nics && !d->nics_err.text[0])
		printf("  none but loopback\n");
	if (d->pid)
		printf("\nrunning       pid %d\n", d->pid);
	else
		printf("\nrunning       no\n");
	if (!d->dead_known)
		printf("left behind   not known: run as root\n");
	else if (d->dead)
		printf("left behind   by %" PRIu64 " dead waggle%s: take it out with 'waggle unload'\n", d->dead,
		       d->dead == 1 ? "" : "s");
	else
		printf("left behind   nothing\n");
	if (d->reply) {
		printf("\n");
		(void)ctl_render_programs(d->reply, stdout, &err);
	}
}

static int doctor_fn(int argc, char **argv)
{
	struct doctor_args args = {};
	struct doctor d = {};
	int first, r = opt_parse(&cmd_doctor, argc, argv, &args, &first);

	if (r < 0)
		return OPT_EXIT(r);
	doctor_look(&d);
	if (args.json)
		r = doctor_json(&d);
	else
		doctor_text(&d);
	json_decref(d.reply);
	free(d.cgroup);
	free(d.nics);
	if (r < 0)
		return cmd_fail(EXIT_FAILED, "doctor: cannot write the result");
	return d.probe.class == ACCEL_REFUSED ? EXIT_FAILED : EXIT_DONE;
}

const struct cmd cmd_doctor = {
	.name = "doctor",
	.args = "",
	.help = "tell what this kernel can do, and how to get the rest",
	.opts = doctor_opts,
	.fn = doctor_fn,
};
