// SPDX-License-Identifier: GPL-2.0-or-later
/* Explains which entry of a configuration decides on a connection; touches nothing. */
#include "hook/policy.h"

#include <errno.h>

#include <jansson.h>

#include "base/num.h"
#include "cmd/cmd.h"
#include "model/addr.h"

struct policy_args {
	const char *config, *from, *to, *source, *listener;
	uint64_t user;
	bool json;
};

static const struct opt policy_opts[] = {
	{ "config", OPT_STRING, "FILE", "the configuration (also -c), see waggle.yaml(5)",
	  offsetof(struct policy_args, config), 0, 0 },
	{ "from", OPT_STRING, "CGROUP", "cgroup of the program that connects; without it: of another machine",
	  offsetof(struct policy_args, from), 0, 0 },
	{ "to", OPT_STRING, "ADDR:PORT", "what it connects to", offsetof(struct policy_args, to), 0, 0 },
	{ "source", OPT_STRING, "ADDR", "address that it connects from, if that is known",
	  offsetof(struct policy_args, source), 0, 0 },
	{ "listener", OPT_STRING, "CGROUP", "cgroup of what listens there, if it is on this machine",
	  offsetof(struct policy_args, listener), 0, 0 },
	{ "user", OPT_U64, "UID", "user of the program, for redirects that exclude some; 0 unless said",
	  offsetof(struct policy_args, user), 0, UINT32_MAX - 1 },
	{ "json", OPT_FLAG, NULL, "print JSON", offsetof(struct policy_args, json), 0, 0 },
	{ 0 },
};

static int parse_question(const struct policy_args *args, struct policy_question *ret, struct err *err)
{
	char host[256];
	int r;

	*ret = (struct policy_question){ .from = args->from, .to_group = args->listener, .uid = (uint32_t)args->user };
	if (args->from && args->from[0] != '/')
		return err_set(err, -EINVAL, "--from: '%s' is not a cgroup: write it as in /app", args->from);
	if (args->listener && args->listener[0] != '/')
		return err_set(err, -EINVAL, "--listener: '%s' is not a cgroup: write it as in /app", args->listener);
	r = addr_split(args->to, host, sizeof(host), &ret->port, err);
	if (r >= 0)
		r = addr_parse(host, &ret->to, err);
	if (r >= 0 && args->source)
		r = addr_parse(args->source, &ret->source, err);
	return r;
}

static json_t *place_json(const struct config_pos *pos)
{
	return json_pack("{s:s, s:i, s:i}", "file", pos->file, "line", (int)pos->line, "column", (int)pos->column);
}

static int print_json(const struct config *c, const struct policy_answer *a)
{
	json_t *policy = json_null(), *redirect = json_null(), *root;
	char to[ADDR_TEXT_MAX];
	int r;

	if (a->policy != POLICY_NONE) {
		policy = json_pack("{s:i, s:s, s:o}", "index", (int)a->policy, "action",
				   c->policies[a->policy].allow ? "allow" : "deny", "at",
				   place_json(&c->policies[a->policy].pos));
	}
	if (a->redirect != POLICY_NONE) {
		const struct config_redirect *e = &c->redirects[a->redirect];

		redirect = json_pack("{s:i, s:s, s:o}", "index", (int)a->redirect, "to",
				     addr_format(&e->addr, e->port, to), "at", place_json(&e->pos));
	}
	root = json_pack("{s:b, s:o, s:o}", "allowed", a->allowed, "policy", policy, "redirect", redirect);
	r = root ? json_dumpf(root, stdout, JSON_INDENT(2)) : -1;
	json_decref(root);
	return r < 0 || putchar('\n') == EOF || fflush(stdout) ?
		       cmd_fail(EXIT_FAILED, "policy: cannot write the JSON") :
		       EXIT_DONE;
}

static int print_text(const struct config *c, const struct policy_answer *a)
{
	char to[ADDR_TEXT_MAX];

	printf("%s: ", a->allowed ? "allowed" : "denied");
	if (a->policy == POLICY_NONE) {
		printf("no policy matches\n");
	} else {
		const struct config_pos *pos = &c->policies[a->policy].pos;

		printf("by policy %zu of %zu, at %s:%u:%u\n", a->policy + 1, c->n_policies, pos->file, pos->line,
		       pos->column);
	}
	if (a->redirect != POLICY_NONE) {
		const struct config_redirect *e = &c->redirects[a->redirect];

		printf("redirected to %s, at %s:%u:%u\n", addr_format(&e->addr, e->port, to), e->pos.file, e->pos.line,
		       e->pos.column);
	}
	return EXIT_DONE;
}

static int policy_test(const struct policy_args *args)
{
	_cleanup_(policy_closep) struct policy *policy = NULL;
	_cleanup_(config_freep) struct config *c = NULL;
	struct policy_question q;
	struct policy_answer a;
	struct err err = {};
	int r;

	r = parse_question(args, &q, &err);
	if (r < 0)
		return cmd_fail(EXIT_USAGE, "policy: %s", err.text);
	r = cmd_config("policy", args->config, &c);
	if (r != EXIT_DONE)
		return r;
	r = policy_open(c, &policy, &err);
	if (r < 0)
		return cmd_fail(EXIT_FAILED, "policy: %s", err.text);
	if (policy_ask(policy, &q, &a) < 0)
		return cmd_fail(EXIT_FAILED, "policy: out of memory");
	return args->json ? print_json(c, &a) : print_text(c, &a);
}

static int policy_fn(int argc, char **argv)
{
	struct policy_args args = {};
	int first, r = opt_parse(&cmd_policy, argc, argv, &args, &first);

	if (r < 0)
		return OPT_EXIT(r);
	if (!streq(argv[first], "test"))
		return cmd_fail(EXIT_USAGE, "policy: there is no '%s': write 'waggle policy test'", argv[first]);
	if (!args.config)
		return cmd_fail(EXIT_USAGE, "policy: which file? add '-c FILE'");
	if ((!args.from && !args.source) || !args.to)
		return cmd_fail(EXIT_USAGE,
				"policy: which connection? add '--from CGROUP --to ADDR:PORT', or for a client "
				"of another machine '--source ADDR --to ADDR:PORT'");
	return policy_test(&args);
}

const struct cmd cmd_policy = {
	.name = "policy",
	.args = "test",
	.help = "explain which entry decides on a connection",
	.opts = policy_opts,
	.letters = "c",
	.min = 1,
	.max = 1,
	.fn = policy_fn,
};
