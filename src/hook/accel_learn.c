// SPDX-License-Identifier: GPL-2.0-or-later
/* What is known of executables: deciding about the ripe ones, keeping it across restarts. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <bpf/bpf.h>

#include "base/clock.h"
#include "base/log.h"
#include "hook/accel_priv.h"
#include "model/learned.h"
#include "sys/bpf.h"
#include "sys/elf.h"

#define JOIN_SOON_MS 50
/* A program of many sockets may do with the next what it did not with the first: it is watched at least so long. */
#define WATCH_MIN_MS 200

static int exes_fd(const struct accel *a)
{
	return bpf_map__fd(a->skel->maps.ac_exes);
}

/* The kernel's encoding of a device (s_dev), from stat's. */
static uint32_t kernel_dev(dev_t dev)
{
	return major(dev) << 20 | minor(dev);
}

/* Which process runs which executable; the caller frees it. */
static int read_tasks(struct accel *a, struct ac_task_exe **ret, size_t *ret_n)
{
	void *data = NULL;
	size_t bytes;
	int r = bpf_sys_read_iter(bpf_link__fd(a->walk_exes), &data, &bytes);

	if (r < 0)
		return r;
	*ret = data;
	*ret_n = bytes / sizeof(**ret);
	return 0;
}

static const struct ac_task_exe *find_task(const struct ac_task_exe *tasks, size_t n, const struct ac_exe_key *key)
{
	for (size_t i = 0; i < n; i++)
		if (!memcmp(&tasks[i].exe, key, sizeof(*key)))
			return &tasks[i];
	return NULL;
}

static char *task_path(const struct ac_task_exe *task)
{
	char link[64], path[4096];
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/%u/exe", task->pid);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0)
		return NULL;
	path[n] = '\0';
	return strdup(path);
}

/* Calls fn for each executable of the map. */
static int each_exe(struct accel *a,
		    int (*fn)(struct accel *a, const struct ac_exe_key *key, struct ac_exe *exe, void *data),
		    void *data)
{
	struct ac_exe_key key, next;
	bool first = true;
	int r;

	while (!bpf_map_get_next_key(exes_fd(a), first ? NULL : &key, &next)) {
		struct ac_exe exe;

		first = false;
		key = next;
		if (bpf_map_lookup_elem(exes_fd(a), &key, &exe))
			continue;
		r = fn(a, &key, &exe, data);
		if (r)
			return r;
	}
	return 0;
}

static const char *known_path(const struct accel *a, const struct ac_exe_key *key)
{
	for (size_t i = 0; i < a->n_paths; i++)
		if (!memcmp(&a->paths[i].key, key, sizeof(*key)))
			return a->paths[i].path;
	return NULL;
}

struct task_list {
	struct ac_task_exe *v;
	size_t n;
	bool still_ripe;
};

/*
 * With fentry a splice is seen in time to put the connection right, so having read often enough is enough.
 * Without, a file that can splice at all stays on TCP. The file must be looked at while a process runs it.
 */
static int decide_one(struct accel *a, const struct ac_exe_key *key, struct ac_exe *exe, void *data)
{
	struct ac_decision decision = { .key = *key, .from = AC_EXE_RIPE, .to = AC_EXE_TRUSTED };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &decision, .ctx_size_in = sizeof(decision));
	struct task_list *tasks = data;
	const struct ac_task_exe *task;
	char path[64];
	int able, r;

	if (exe->state != AC_EXE_RIPE)
		return 0;
	if (clock_ms() < exe->read_ns / 1000000 + WATCH_MIN_MS) {
		tasks->still_ripe = true;
		return 0;
	}
	if (!a->probe.fentry) {
		task = find_task(tasks->v, tasks->n, key);
		if (!task) {
			tasks->still_ripe = true;
			return 0;
		}
		(void)snprintf(path, sizeof(path), "/proc/%u/exe", task->pid);
		able = elf_can_splice(path);
		if (able < 0) {
			tasks->still_ripe = true;
			return 0;
		}
		if (able)
			decision.to = AC_EXE_ABLE;
	}
	/* Whatever was seen meanwhile wins: a program writes, since it alone can compare and swap. */
	r = bpf_prog_test_run_opts(bpf_program__fd(a->skel->progs.ac_decide), &opts);
	if (r < 0)
		return r;
	if (!decision.done)
		return 0;
	a->learned_changed = true;
	if (decision.to == AC_EXE_TRUSTED) {
		a->join_due_ms = clock_ms() + JOIN_SOON_MS;
		a->join_pause_ms = ACCEL_TICK_MS;
	}
	log_debug("'%.16s' is %s", exe->comm, decision.to == AC_EXE_TRUSTED ? "trusted" : "left on TCP: it can splice");
	return 0;
}

static int note_one(struct accel *a, const struct ac_exe_key *key, struct ac_exe *exe, void *data)
{
	struct task_list *tasks = data;
	const struct ac_task_exe *task = known_path(a, key) ? NULL : find_task(tasks->v, tasks->n, key);
	struct accel_path *paths;
	char *path;

	(void)exe;
	path = task ? task_path(task) : NULL;
	if (!path)
		return 0;
	paths = reallocarray(a->paths, a->n_paths + 1, sizeof(*paths));
	if (!paths) {
		free(path);
		return -ENOMEM;
	}
	a->paths = paths;
	a->paths[a->n_paths++] = (struct accel_path){ .key = *key, .path = path };
	return 0;
}

/* Notes where the files of the executables are that run now: what is learned of them is kept by it. */
int accel_learn_note(struct accel *a)
{
	struct task_list tasks = {};
	int r = read_tasks(a, &tasks.v, &tasks.n);

	a->learned_new = false;
	if (r < 0)
		return r;
	r = each_exe(a, note_one, &tasks);
	free(tasks.v);
	return r;
}

void accel_learn_free(struct accel *a)
{
	for (size_t i = 0; i < a->n_paths; i++)
		free(a->paths[i].path);
	free(a->paths);
}

int accel_learn_decide(struct accel *a)
{
	struct task_list tasks = {};
	int r = read_tasks(a, &tasks.v, &tasks.n);

	if (r < 0)
		return r;
	r = each_exe(a, decide_one, &tasks);
	a->ripe = tasks.still_ripe;
	free(tasks.v);
	return r;
}

int accel_learn_trust(struct accel *a, const char *path, struct err *err)
{
	struct ac_exe exe = { .state = AC_EXE_TRUSTED, .forced = 1 };
	const char *base = strrchr(path, '/');
	struct ac_exe_key key = {};
	struct stat st;

	if (stat(path, &st) < 0)
		return err_set(err, -errno, "cannot trust '%s': %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "cannot trust '%s': not a file: give the path of an executable", path);
	key.ino = st.st_ino;
	key.dev = kernel_dev(st.st_dev);
	(void)snprintf(exe.comm, sizeof(exe.comm), "%s", base ? base + 1 : path);
	if (bpf_map_update_elem(exes_fd(a), &key, &exe, BPF_ANY))
		return err_set(err, -errno, "cannot trust '%s': %s", path, strerror(errno));
	return 0;
}

static int collect_one(struct accel *a, const struct ac_exe_key *key, struct ac_exe *exe, void *data)
{
	struct {
		struct accel_exe *v;
		size_t n, room;
	} *list = data;

	(void)a;
	if (list->n == list->room) {
		size_t room = list->room ? list->room * 2 : 64;
		struct accel_exe *v = reallocarray(list->v, room, sizeof(*v));

		if (!v)
			return -ENOMEM;
		list->v = v;
		list->room = room;
	}
	list->v[list->n++] = (struct accel_exe){ .key = *key, .exe = *exe };
	return 0;
}

int accel_exes(struct accel *a, struct accel_exe **ret, size_t *ret_n)
{
	struct {
		struct accel_exe *v;
		size_t n, room;
	} list = {};
	struct task_list tasks = {};
	int r;

	r = read_tasks(a, &tasks.v, &tasks.n);
	if (r >= 0)
		r = each_exe(a, collect_one, &list);
	if (r < 0) {
		free(tasks.v);
		accel_exes_free(list.v, list.n);
		return r;
	}
	for (size_t i = 0; i < list.n; i++) {
		const struct ac_task_exe *task = find_task(tasks.v, tasks.n, &list.v[i].key);
		const char *known = known_path(a, &list.v[i].key);

		list.v[i].path = task ? task_path(task) : known ? strdup(known) : NULL;
	}
	free(tasks.v);
	*ret = list.v;
	*ret_n = list.n;
	return 0;
}

void accel_exes_free(struct accel_exe *exes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(exes[i].path);
	free(exes);
}

static char *learned_path(const struct accel *a)
{
	char *path = NULL;

	return asprintf(&path, "%s/learned.json", a->state_dir) < 0 ? NULL : path;
}

/* An entry counts only while the file is the one that was learned: same inode, size and time of change. */
static bool learned_is_current(const struct learned *l)
{
	struct stat st;

	return !stat(l->path, &st) && st.st_ino == l->ino && (uint64_t)st.st_size == l->size &&
	       (uint64_t)st.st_mtim.tv_sec == l->mtime;
}

int accel_learn_load(struct accel *a)
{
	_cleanup_free_ char *path = NULL;
	struct learned *v = NULL;
	size_t n = 0;
	int r;

	if (!a->state_dir)
		return 0;
	path = learned_path(a);
	if (!path)
		return -ENOMEM;
	r = learned_read(path, &v, &n, NULL);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	for (size_t i = 0; i < n; i++) {
		struct ac_exe_key key = { .ino = v[i].ino, .dev = v[i].dev };
		struct ac_exe exe = { .state = v[i].state };

		/* A file that could splice on another kernel may be caught in time on this one. */
		if (!learned_is_current(&v[i]) || v[i].state == AC_EXE_ABLE)
			continue;
		if (v[i].state == AC_EXE_TRUSTED && !a->probe.fentry && elf_can_splice(v[i].path) != 0)
			continue;
		(void)snprintf(exe.comm, sizeof(exe.comm), "%s", v[i].comm);
		(void)bpf_map_update_elem(exes_fd(a), &key, &exe, BPF_NOEXIST);
	}
	learned_free(v, n);
	return 0;
}

static bool is_bad(uint32_t state)
{
	return state == AC_EXE_SPLICES || state == AC_EXE_UNFIT || state == AC_EXE_SLEEPS;
}

int accel_learn_keep(struct accel *a)
{
	_cleanup_free_ char *path = NULL;
	struct learned *old = NULL, *v = NULL;
	struct accel_exe *exes = NULL;
	size_t n_old = 0, n_exes = 0, n = 0;
	int r;

	if (!a->state_dir)
		return 0;
	path = learned_path(a);
	if (!path)
		return -ENOMEM;
	r = accel_exes(a, &exes, &n_exes);
	if (r < 0)
		return r;
	/* Entries of programs that are not running now stay as they were. */
	(void)learned_read(path, &old, &n_old, NULL);
	v = calloc(n_exes + n_old + 1, sizeof(*v));
	for (size_t i = 0; v && i < n_exes; i++) {
		struct stat st;

		/* What --trust says holds for this time. */
		if (!(exes[i].exe.state == AC_EXE_TRUSTED && !exes[i].exe.forced) && !is_bad(exes[i].exe.state))
			continue;
		if (!exes[i].path || stat(exes[i].path, &st) < 0 || st.st_ino != exes[i].key.ino)
			continue;
		v[n] = (struct learned){ .ino = exes[i].key.ino,
					 .dev = exes[i].key.dev,
					 .state = exes[i].exe.state,
					 .size = (uint64_t)st.st_size,
					 .mtime = (uint64_t)st.st_mtim.tv_sec };
		(void)snprintf(v[n].comm, sizeof(v[n].comm), "%.15s", exes[i].exe.comm);
		v[n++].path = TAKE_PTR(exes[i].path);
	}
	for (size_t i = 0; v && i < n_old; i++) {
		size_t j = 0;

		while (j < n && !(v[j].ino == old[i].ino && v[j].dev == old[i].dev))
			j++;
		if (j == n && learned_is_current(&old[i])) {
			struct ac_exe_key key = { .ino = old[i].ino, .dev = old[i].dev };
			struct ac_exe exe;

			/* It runs no more, but was seen to do worse before it ended. */
			if (!bpf_map_lookup_elem(exes_fd(a), &key, &exe) && is_bad(exe.state))
				old[i].state = exe.state;
			v[n] = old[i];
			v[n++].path = TAKE_PTR(old[i].path);
		}
	}
	r = v ? learned_write(path, v, n) : -ENOMEM;
	learned_free(v, n);
	learned_free(old, n_old);
	accel_exes_free(exes, n_exes);
	return r;
}
