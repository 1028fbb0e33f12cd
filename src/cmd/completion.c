// SPDX-License-Identifier: GPL-2.0-or-later
/* What a shell needs to complete command lines, made of the tables of commands and options. */
#include <jansson.h>

#include "bench/bench.h"
#include "cmd/cmd.h"
#include "ctl/client.h"
#include "ctl/top.h"
#include "model/wire_filter.h"

#define OPERANDS_MAX 4

static const struct opt completion_opts[] = { { 0 } };

/* How a value or an operand is completed, by its name in the help. */
enum completes {
	COMPLETES_NOTHING,
	COMPLETES_FILE,
	COMPLETES_DIR,
	COMPLETES_SERVICE,
	COMPLETES_BACKEND,
	COMPLETES_WORDS, /* see put_words() */
};

static enum completes completes_of(const char *name)
{
	if (streq(name, "FILE") || streq(name, "PATH"))
		return COMPLETES_FILE;
	if (streq(name, "DIR") || streq(name, "CGROUP"))
		return COMPLETES_DIR;
	if (streq(name, "SERVICE"))
		return COMPLETES_SERVICE;
	if (streq(name, "BACKEND"))
		return COMPLETES_BACKEND;
	if (streq(name, "BENCHMARK") || streq(name, "EVENT") || streq(name, "VIEW"))
		return COMPLETES_WORDS;
	return *name >= 'a' && *name <= 'z' ? COMPLETES_WORDS : COMPLETES_NOTHING;
}

/* With blanks between them: those of a table, or those that the name itself is a list of, as in "bash|zsh". */
static void put_words(const char *name)
{
	const char *word;

	if (streq(name, "BENCHMARK")) {
		for (const struct bench *b = benches; b->name; b++)
			printf("%s%s", b == benches ? "" : " ", b->name);
	} else if (streq(name, "EVENT")) {
		for (size_t i = 0; (word = wire_filter_event(i)); i++)
			printf("%s%s", i ? " " : "", word);
	} else if (streq(name, "VIEW")) {
		for (size_t i = 0; i < _TOP_VIEW_MAX; i++)
			printf("%s%s", i ? " " : "", top_views[i].name);
	} else {
		for (; *name; name++)
			(void)putchar(*name == '|' ? ' ' : *name);
	}
}

/* The operands of a command, without what says that they may be left out. */
struct operands {
	char text[256];
	const char *v[OPERANDS_MAX];
	size_t n;
};

static void operands_of(const struct cmd *cmd, struct operands *ret)
{
	char *rest = ret->text, *word;

	ret->n = 0;
	(void)snprintf(ret->text, sizeof(ret->text), "%s", cmd->args);
	while (ret->n < OPERANDS_MAX && (word = strtok_r(rest, " []", &rest)))
		ret->v[ret->n++] = word;
}

/* bash */

static bool has_letter(const struct cmd *cmd, const struct opt *o)
{
	return opt_letter(cmd, o) != '\0';
}

/* In single quotes: a name that the script knows, the words themselves, or '-': nothing. */
static void bash_kind(const char *name)
{
	static const char *const kinds[] = {
		[COMPLETES_NOTHING] = "-",	 [COMPLETES_FILE] = "FILE",	  [COMPLETES_DIR] = "DIR",
		[COMPLETES_SERVICE] = "SERVICE", [COMPLETES_BACKEND] = "BACKEND",
	};
	enum completes how = completes_of(name);

	(void)putchar('\'');
	if (how == COMPLETES_WORDS)
		put_words(name);
	else
		(void)fputs(kinds[how], stdout);
	(void)putchar('\'');
}

static void bash_command(const struct cmd *cmd)
{
	struct operands args = {};

	printf("\t%s)\n\t\toptions='", cmd->name);
	for (const struct opt *o = cmd->opts; o->name; o++)
		printf("--%s ", o->name);
	printf("--help'\n\t\toperands=(");
	operands_of(cmd, &args);
	for (size_t i = 0; i < args.n; i++) {
		(void)fputs(i ? " " : "", stdout);
		bash_kind(args.v[i]);
	}
	printf(")\n");
	for (const struct opt *o = cmd->opts; o->name; o++) {
		if (!o->arg)
			continue;
		printf("\t\tvalues[--%s]=", o->name);
		bash_kind(o->arg);
		if (has_letter(cmd, o))
			printf(" values[-%c]=${values[--%s]}", o->name[0], o->name);
		(void)putchar('\n');
	}
	printf("\t\t;;\n");
}

/* The line is split at blanks alone: bash would at the colon of an address too, and wants replies from there on. */
static const char bash_head[] =
	"# Completes command lines of waggle in bash. Written by 'waggle completion bash'.\n\n"
	"_waggle()\n{\n"
	"\tlocal line=${COMP_LINE:0:COMP_POINT} cur='' words kind found=() options operands=() i\n"
	"\tlocal -A values=()\n\n"
	"\tread -ra words <<<\"$line\"\n"
	"\tif [[ $line != *[[:blank:]] ]]; then\n"
	"\t\tcur=${words[-1]}\n"
	"\t\tunset 'words[-1]'\n"
	"\tfi\n"
	"\tCOMPREPLY=()\n";

static const char bash_tail[] =
	"\t*)\n\t\treturn\n\t\t;;\n\tesac\n"
	"\tkind=${values[${words[-1]}]-}\n"
	"\tif [[ -z $kind && $cur == -* ]]; then\n"
	"\t\tmapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$cur\")\n"
	"\t\treturn\n"
	"\tfi\n"
	"\tfor ((i = 2; i < ${#words[@]}; i++)); do\n"
	"\t\tif [[ -n ${values[${words[i]}]-} ]]; then\n"
	"\t\t\t((i++))\n"
	"\t\telif [[ ${words[i]} != -* ]]; then\n"
	"\t\t\tfound+=(\"${words[i]}\")\n"
	"\t\tfi\n"
	"\tdone\n"
	"\t[[ -n $kind ]] || kind=${operands[${#found[@]}]-}\n"
	"\tcase $kind in\n"
	"\tFILE | DIR)\n"
	"\t\tcompopt -o filenames 2>/dev/null\n"
	"\t\tif [[ $kind == DIR ]]; then\n"
	"\t\t\tmapfile -t COMPREPLY < <(compgen -d -- \"$cur\")\n"
	"\t\telse\n"
	"\t\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
	"\t\tfi\n"
	"\t\treturn\n"
	"\t\t;;\n"
	"\tSERVICE) kind=$(\"${words[0]}\" completion services 2>/dev/null) ;;\n"
	"\tBACKEND) kind=$(\"${words[0]}\" completion backends \"${found[0]}\" 2>/dev/null) ;;\n"
	"\t-) kind='' ;;\n"
	"\tesac\n"
	"\tmapfile -t COMPREPLY < <(compgen -W \"$kind\" -- \"$cur\")\n"
	"\tif [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then\n"
	"\t\tCOMPREPLY=(\"${COMPREPLY[@]#\"${cur%\"${cur##*:}\"}\"}\")\n"
	"\tfi\n"
	"}\n"
	"complete -F _waggle waggle\n";

static void completion_bash(void)
{
	(void)fputs(bash_head, stdout);
	printf("\tif ((${#words[@]} == 1)); then\n\t\tmapfile -t COMPREPLY < <(compgen -W '");
	for (size_t i = 0; i < n_commands; i++)
		printf("%s ", commands[i]->name);
	printf("--help --version' -- \"$cur\")\n\t\treturn\n\tfi\n\tcase ${words[1]} in\n");
	for (size_t i = 0; i < n_commands; i++)
		bash_command(commands[i]);
	(void)fputs(bash_tail, stdout);
}

/* zsh */

/* Within single quotes; what has a meaning to _arguments and _describe is escaped. */
static void zsh_text(const char *text)
{
	for (; *text; text++) {
		if (strchr("[]:\\", *text))
			(void)putchar('\\');
		if (*text == '\'')
			(void)fputs("'\\''", stdout);
		else
			(void)putchar(*text);
	}
}

static void zsh_action(const char *name)
{
	switch (completes_of(name)) {
	case COMPLETES_FILE:
		printf("_files");
		break;
	case COMPLETES_DIR:
		printf("_files -/");
		break;
	case COMPLETES_SERVICE:
		printf("_waggle_services");
		break;
	case COMPLETES_BACKEND:
		printf("_waggle_backends");
		break;
	case COMPLETES_WORDS:
		printf("(");
		put_words(name);
		printf(")");
		break;
	case COMPLETES_NOTHING:
		printf(" ");
		break;
	}
}

static void zsh_option(const struct opt *o, const char *dashes, const char *name, int n)
{
	printf(" \\\n\t\t\t'%s%s%.*s[", o->kind == OPT_LIST ? "*" : "", dashes, n, name);
	zsh_text(o->help);
	printf("]");
	if (o->arg) {
		printf(":%s:", o->arg);
		zsh_action(o->arg);
	}
	printf("'");
}

static void zsh_command(const struct cmd *cmd)
{
	struct operands args = {};

	printf("\t%s)\n\t\t_arguments '--help[show the help]'", cmd->name);
	for (const struct opt *o = cmd->opts; o->name; o++) {
		zsh_option(o, "--", o->name, (int)strlen(o->name));
		if (has_letter(cmd, o))
			zsh_option(o, "-", o->name, 1);
	}
	operands_of(cmd, &args);
	for (size_t i = 0; i < args.n; i++) {
		printf(" \\\n\t\t\t'%zu:operand:", i + 1);
		zsh_action(args.v[i]);
		printf("'");
	}
	printf("\n\t\t;;\n");
}

static void completion_zsh(void)
{
	printf("#compdef waggle\n"
	       "# Completes command lines of waggle in zsh. Written by 'waggle completion zsh'.\n\n"
	       "_waggle_services() {\n\tcompadd -- ${(f)\"$(waggle completion services 2>/dev/null)\"}\n}\n\n"
	       "_waggle_backends() {\n"
	       "\tcompadd -- ${(f)\"$(waggle completion backends $line[1] 2>/dev/null)\"}\n}\n\n"
	       "_waggle() {\n\tlocal -a commands\n\n\tcommands=(\n");
	for (size_t i = 0; i < n_commands; i++) {
		printf("\t\t'%s:", commands[i]->name);
		zsh_text(commands[i]->help);
		printf("'\n");
	}
	printf("\t)\n\tif ((CURRENT == 2)); then\n\t\t_describe command commands\n\t\treturn\n\tfi\n"
	       "\tshift words\n\t((CURRENT--))\n\tcase $words[1] in\n");
	for (size_t i = 0; i < n_commands; i++)
		zsh_command(commands[i]);
	printf("\tesac\n}\n\n_waggle \"$@\"\n");
}

/* fish */

static void fish_text(const char *text)
{
	(void)putchar('\'');
	for (; *text; text++) {
		if (*text == '\'' || *text == '\\')
			(void)putchar('\\');
		(void)putchar(*text);
	}
	(void)putchar('\'');
}

/* What completes it, as options of "complete". */
static void fish_completes(const char *name, const char *operands)
{
	switch (completes_of(name)) {
	case COMPLETES_FILE:
		printf(" -F");
		break;
	case COMPLETES_DIR:
		printf(" -a '(__fish_complete_directories)'");
		break;
	case COMPLETES_SERVICE:
		printf(" -a '(waggle completion services 2>/dev/null)'");
		break;
	case COMPLETES_BACKEND:
		printf(" -a '(waggle completion backends (%s)[1] 2>/dev/null)'", operands);
		break;
	case COMPLETES_WORDS:
		printf(" -a '");
		put_words(name);
		printf("'");
		break;
	case COMPLETES_NOTHING:
		break;
	}
}

static void fish_option(const struct cmd *cmd, const struct opt *o)
{
	printf("complete -c waggle -n '__waggle_in %s' -l %s", cmd->name, o->name);
	if (has_letter(cmd, o))
		printf(" -s %c", o->name[0]);
	if (o->arg) {
		printf(completes_of(o->arg) == COMPLETES_FILE ? " -r" : " -x");
		fish_completes(o->arg, "");
	}
	printf(" -d ");
	fish_text(o->help);
	(void)putchar('\n');
}

static void fish_operand(const struct cmd *cmd, const char *name, size_t i)
{
	char operands[256] = "__waggle_operands";

	if (completes_of(name) == COMPLETES_NOTHING)
		return;
	for (const struct opt *o = cmd->opts; o->name; o++) {
		size_t n = strlen(operands);

		if (o->arg && has_letter(cmd, o))
			(void)snprintf(operands + n, sizeof(operands) - n, " --%s -%c", o->name, o->name[0]);
		else if (o->arg)
			(void)snprintf(operands + n, sizeof(operands) - n, " --%s", o->name);
	}
	printf("complete -c waggle -n '__waggle_in %s; and test (count (%s)) -eq %zu'", cmd->name, operands, i);
	fish_completes(name, operands);
	(void)putchar('\n');
}

/* The operands so far: all words behind the command but options, and the values of those that are named. */
static const char fish_head[] = "# Completes command lines of waggle in fish. Written by 'waggle completion fish'.\n\n"
				"function __waggle_in\n"
				"\tset -l words (commandline -opc)\n"
				"\ttest (count $words) -ge 2; and test $words[2] = $argv[1]\n"
				"end\n\n"
				"function __waggle_operands\n"
				"\tset -l words (commandline -opc)\n"
				"\tset -l last\n"
				"\tfor word in $words[3..-1]\n"
				"\t\tif not contains -- \"$last\" $argv; and not string match -q -- '-*' $word\n"
				"\t\t\techo $word\n"
				"\t\tend\n"
				"\t\tset last $word\n"
				"\tend\n"
				"end\n\n"
				"complete -c waggle -f\n";

static void completion_fish(void)
{
	(void)fputs(fish_head, stdout);
	for (size_t i = 0; i < n_commands; i++) {
		const struct cmd *cmd = commands[i];
		struct operands args = {};

		printf("complete -c waggle -n __fish_use_subcommand -a %s -d ", cmd->name);
		fish_text(cmd->help);
		(void)putchar('\n');
		for (const struct opt *o = cmd->opts; o->name; o++)
			fish_option(cmd, o);
		operands_of(cmd, &args);
		for (size_t k = 0; k < args.n; k++)
			fish_operand(cmd, args.v[k], k);
	}
}

/* Names that the running waggle knows; service NULL: those of the services. A line each. */
static int completion_names(const char *service)
{
	_cleanup_free_ char *name = service ? ctl_escape(service) : NULL, *path = NULL;
	const char *list = service ? "backends" : "services", *key = service ? "address" : "name";
	json_t *root = NULL, *o;
	struct err err = {};
	size_t i;

	if ((service && !name) || asprintf(&path, "/v1/services%s%s", name ? "/" : "", name ? name : "") < 0)
		return cmd_fail(EXIT_FAILED, "completion: out of memory");
	if (ctl_call(path, NULL, &root, &err) < 0)
		return cmd_fail(EXIT_FAILED, "completion: %s", err.text);
	json_array_foreach(json_object_get(root, list), i, o) {
		const char *text = json_string_value(json_object_get(o, key));

		if (text)
			(void)puts(text);
	}
	json_decref(root);
	return EXIT_DONE;
}

static int completion_fn(int argc, char **argv)
{
	int first, r = opt_parse(&cmd_completion, argc, argv, NULL, &first);
	const char *what, *service;

	if (r < 0)
		return OPT_EXIT(r);
	what = argv[first];
	service = first + 1 < argc ? argv[first + 1] : NULL;
	if (streq(what, "backends"))
		return service ? completion_names(service) :
				 cmd_fail(EXIT_USAGE,
					  "completion: of which service? write 'waggle completion backends SERVICE'");
	if (service)
		return cmd_fail(EXIT_USAGE, "completion: unexpected argument '%s': see 'waggle completion --help'",
				service);
	if (streq(what, "services"))
		return completion_names(NULL);
	if (streq(what, "bash"))
		completion_bash();
	else if (streq(what, "zsh"))
		completion_zsh();
	else if (streq(what, "fish"))
		completion_fish();
	else
		return cmd_fail(EXIT_USAGE, "completion: there is no '%s': bash, zsh or fish", what);
	return fflush(stdout) ? cmd_fail(EXIT_FAILED, "completion: cannot write") : EXIT_DONE;
}

const struct cmd cmd_completion = {
	.name = "completion",
	.args = "bash|zsh|fish|services|backends [SERVICE]",
	.help = "write what a shell needs to complete command lines",
	.opts = completion_opts,
	.min = 1,
	.max = 2,
	.fn = completion_fn,
};
