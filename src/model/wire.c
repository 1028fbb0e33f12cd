// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <time.h>

#include "model/learned.h"

static const char *const why_words[_AC_WHY_MAX] = {
#define X(id, word, text) [AC_WHY_##id] = word,
	AC_WHY_LIST(X)
#undef X
};

static const char *const why_texts[_AC_WHY_MAX] = {
#define X(id, word, text) [AC_WHY_##id] = text,
	AC_WHY_LIST(X)
#undef X
};

static const char *const stat_words[_AC_STAT_MAX] = {
#define X(id, word, text) [AC_STAT_##id] = word,
	AC_STAT_LIST(X)
#undef X
};

static const char *const event_words[] = {
	[AC_EVENT_ESTABLISHED] = "established",
	[AC_EVENT_JOINED] = "joined",
	[AC_EVENT_LEFT] = "left",
	[AC_EVENT_FALLBACK] = "fallback",
	[AC_EVENT_RETURN] = "return",
	[AC_EVENT_LEARNED] = "learned",
	[AC_EVENT_ODD] = "odd",
	[AC_EVENT_CLOSED] = "closed",
};
_Static_assert(ARRAY_SIZE(event_words) == _AC_EVENT_MAX, "a word for each event");

const char *wire_run_dir(void)
{
	const char *dir = secure_getenv("WAGGLE_RUN_DIR");

	return dir && dir[0] ? dir : WIRE_RUN_DIR;
}

const char *wire_why_word(unsigned int why)
{
	return why < _AC_WHY_MAX ? why_words[why] : "unknown";
}

const char *wire_why_text(unsigned int why)
{
	return why < _AC_WHY_MAX ? why_texts[why] : "unknown";
}

const char *wire_event_word(unsigned int type)
{
	return type < _AC_EVENT_MAX ? event_words[type] : "unknown";
}

const char *wire_stat_word(unsigned int stat)
{
	return stat < _AC_STAT_MAX ? stat_words[stat] : "unknown";
}

void wire_addr_format(unsigned int family, const uint32_t addr[4], uint16_t port, char ret[WIRE_ADDR_MAX])
{
	bool mapped = family == AF_INET6 && IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)addr);
	char text[INET6_ADDRSTRLEN] = "?";

	if (family == AF_INET6 && !mapped) {
		(void)inet_ntop(AF_INET6, addr, text, sizeof(text));
		(void)snprintf(ret, WIRE_ADDR_MAX, "[%s]:%u", text, port);
		return;
	}
	(void)inet_ntop(AF_INET, mapped ? &addr[3] : &addr[0], text, sizeof(text));
	(void)snprintf(ret, WIRE_ADDR_MAX, "%s:%u", text, port);
}

json_t *wire_string(const char *text)
{
	json_t *s = json_string(text);
	char *copy;

	if (s || !(copy = strdup(text)))
		return s;
	for (char *p = copy; *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	s = json_string(copy);
	free(copy);
	return s;
}

/* "2026-11-21T07:50:12.123456Z" */
static json_t *wire_time(int64_t ns)
{
	time_t seconds = (time_t)(ns / 1000000000);
	char text[48], whole[32];
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || !strftime(whole, sizeof(whole), "%Y-%m-%dT%H:%M:%S", &tm))
		return json_null();
	(void)snprintf(text, sizeof(text), "%s.%06uZ", whole, (unsigned int)(ns % 1000000000 / 1000) % 1000000);
	return json_string(text);
}

static json_t *wire_exe_key(const struct ac_exe_key *key)
{
	return json_pack("{s:I, s:I}", "inode", (json_int_t)key->ino, "device", (json_int_t)key->dev);
}

static json_t *wire_comm(const char comm[AC_COMM_LEN])
{
	char name[AC_COMM_LEN + 1];

	(void)snprintf(name, sizeof(name), "%.*s", AC_COMM_LEN, comm);
	return wire_string(name);
}

static const char *exe_state_word(uint32_t state)
{
	const char *word = learned_state_word(state);

	return word ? word : "unknown";
}

json_t *wire_event(const struct ac_event *e, int64_t offset_ns)
{
	char local[WIRE_ADDR_MAX], remote[WIRE_ADDR_MAX];
	int64_t ns = (int64_t)e->ns + offset_ns;
	json_t *o;

	if (e->type == AC_EVENT_LEARNED)
		return json_pack("{s:s, s:o, s:o, s:s, s:o}", "event", wire_event_word(e->type), "time", wire_time(ns),
				 "name", wire_comm(e->comm), "state", exe_state_word(e->exe_state), "executable",
				 wire_exe_key(&e->exe));
	wire_addr_format(e->family, e->local_addr, e->local_port, local);
	wire_addr_format(e->family, e->remote_addr, e->remote_port, remote);
	o = json_pack("{s:s, s:o, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:I}", "event",
		      wire_event_word(e->type), "time", wire_time(ns), "role", e->is_server ? "server" : "client",
		      "local", local, "remote", remote, "family", e->family == AF_INET6 ? "ipv6" : "ipv4", "netns",
		      (json_int_t)e->netns, "reason", wire_why_word(e->why), "text", wire_why_text(e->why),
		      "joined_bytes", (json_int_t)e->joined_bytes, "tcp_bytes", (json_int_t)e->tcp_bytes, "cookie",
		      (json_int_t)e->cookie, "peer_cookie", (json_int_t)e->peer_cookie);
	if (e->comm[0])
		(void)json_object_set_new(o, "program", wire_comm(e->comm));
	return o;
}

json_t *wire_event_lost(uint64_t count)
{
	return json_pack("{s:s, s:I}", "event", "lost", "count", (json_int_t)count);
}

json_t *wire_exe(const struct wire_exe *exe)
{
	return json_pack("{s:o, s:o, s:s, s:I, s:I, s:I}", "path", exe->path ? wire_string(exe->path) : json_null(),
			 "name", wire_comm(exe->exe.comm), "state", exe_state_word(exe->exe.state), "reads",
			 (json_int_t)exe->exe.reads, "inode", (json_int_t)exe->key.ino, "device",
			 (json_int_t)exe->key.dev);
}

json_t *wire_status(const struct wire_status *s)
{
	json_t *counters = json_object(), *why = json_object();

	for (unsigned int i = 0; i < _AC_STAT_MAX; i++)
		(void)json_object_set_new(counters, stat_words[i], json_integer((json_int_t)s->stats[i]));
	for (unsigned int i = 0; i < _AC_WHY_MAX; i++)
		if (s->why[i])
			(void)json_object_set_new(why, why_words[i], json_integer((json_int_t)s->why[i]));
	return json_pack("{s:I, s:s, s:I, s:s, s:s, s:o, s:o, s:{s:I, s:I, s:o}, s:{s:I, s:I}, s:o}", "pid",
			 (json_int_t)s->pid, "version", s->version, "uptime_s", (json_int_t)s->uptime_s, "state",
			 s->leaving ? "leaving" : "running", "class", s->class, "reason",
			 s->reason[0] ? wire_string(s->reason) : json_null(), "cgroup", wire_string(s->cgroup),
			 "sockets", "joined", (json_int_t)s->joined, "watched", (json_int_t)s->watched, "reasons", why,
			 "leaving", "left", (json_int_t)s->left, "asleep", (json_int_t)s->asleep, "counters", counters);
}

json_t *wire_error(const char *text)
{
	return json_pack("{s:o}", "error", wire_string(text));
}

static int unload_from_json(json_t *root, bool *ret_now, struct err *err)
{
	const char *key;
	json_t *value;
	bool now = false;

	if (!json_is_object(root))
		return err_set(err, -EINVAL, "the body must be an object such as {\"now\": true}");
	json_object_foreach(root, key, value) {
		if (!streq(key, "now"))
			return err_set(err, -EINVAL, "there is no field '%.64s': only \"now\" is known", key);
		if (!json_is_boolean(value))
			return err_set(err, -EINVAL, "\"now\" must be true or false");
		now = json_is_true(value);
	}
	*ret_now = now;
	return 0;
}

int wire_unload_parse(const char *text, size_t bytes, bool *ret_now, struct err *err)
{
	json_error_t je;
	json_t *root;
	int r;

	if (!bytes) {
		*ret_now = false;
		return 0;
	}
	root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &je);
	if (!root)
		return err_set(err, -EINVAL, "the body is not JSON: line %d: %s", je.line, je.text);
	r = unload_from_json(root, ret_now, err);
	json_decref(root);
	return r;
}

json_t *wire_doctor(const struct wire_doctor *d)
{
	json_t *needs = json_array(), *nics = json_array();

	for (size_t i = 0; i < d->n_nics; i++)
		(void)json_array_append_new(nics, json_pack("{s:o, s:s, s:s}", "name", wire_string(d->nics[i].name),
							    "hook", d->nics[i].hook, "reason", d->nics[i].reason));
	for (size_t i = 0; i < d->n_needs; i++)
		(void)json_array_append_new(needs, json_pack("{s:s, s:b, s:s, s:s?}", "name", d->needs[i].name, "has",
							     d->needs[i].has, "means", d->needs[i].means, "remedy",
							     d->needs[i].has ? NULL : d->needs[i].remedy));
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:O?, s:o}", "class", d->class, "reason",
			 d->reason[0] ? wire_string(d->reason) : json_null(), "kernel", wire_string(d->kernel),
			 "cgroup", d->cgroup ? wire_string(d->cgroup) : json_null(), "capabilities", needs, "pid",
			 d->pid ? json_integer(d->pid) : json_null(), "dead", (json_int_t)d->dead, "programs",
			 d->programs, "interfaces", nics);
}
