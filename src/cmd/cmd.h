/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Commands. One table in main.c drives dispatch, --help and the lint that compares both with the man pages.
 * A command gets argc/argv with its own name first, as if it were a program, and returns an exit code.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

enum {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
};

enum opt_kind {
	OPT_FLAG,   /* bool *: set to true */
	OPT_STRING, /* const char **: points into argv */
	OPT_LIST,   /* struct opt_list *: may be given several times */
	OPT_U64,    /* uint64_t *, within min and max */
};

struct opt_list {
	const char **v; /* points into argv; freed by opt_list_done() */
	size_t n;
};

struct opt {
	const char *name; /* without the dashes */
	enum opt_kind kind;
	const char *arg; /* how help names the argument; NULL for OPT_FLAG */
	const char *help;
	size_t offset; /* into the command's own struct of arguments */
	unsigned long long min, max;
};

struct cmd {
	const char *name;
	const char *args; /* how help writes the operands, "" if none */
	const char *help;
	const struct opt *opts; /* ends with a NULL name */
	const char *letters; /* that stand for the option that begins with them too: "c" has -c be --config; NULL: none */
	int min, max;	     /* number of operands; max -1: any */
	int (*fn)(int argc, char **argv);
};

extern const struct cmd cmd_accel;
extern const struct cmd cmd_sockets;
extern const struct cmd cmd_conns;
extern const struct cmd cmd_explain;
extern const struct cmd cmd_capture;
extern const struct cmd cmd_trace;
extern const struct cmd cmd_unload;
extern const struct cmd cmd_run;
extern const struct cmd cmd_status;
extern const struct cmd cmd_reload;
extern const struct cmd cmd_drain;
extern const struct cmd cmd_enable;
extern const struct cmd cmd_doctor;
extern const struct cmd cmd_demo;
extern const struct cmd cmd_bench;
extern const struct cmd cmd_check;
extern const struct cmd cmd_policy;
extern const struct cmd cmd_top;
extern const struct cmd cmd_completion;

/* main.c: all of them. */
extern const struct cmd *const commands[];
extern const size_t n_commands;
extern const struct cmd cmd_backend;

/*
 * Parses the options and counts the operands of cmd into args, by the table. Returns 0 and the index of the first
 * operand in *ret_first; otherwise one line has been printed, or the help, and the exit code is returned as
 * -1 - code (so -1 is EXIT_DONE after --help).
 */
int opt_parse(const struct cmd *cmd, int argc, char **argv, void *args, int *ret_first);

/* The letter of an option of cmd; '\0': it has none. */
char opt_letter(const struct cmd *cmd, const struct opt *o);
void opt_list_done(struct opt_list *list);
void opt_help(const struct cmd *cmd);
#define OPT_EXIT(r) (-1 - (r))

/* One line on stderr, "waggle: COMMAND: ...", and the exit code for returning. */
int cmd_fail(int code, const char *fmt, ...) _printf_(2, 3);

/* demo_redirect.c: the demo of redirects, for cmd_demo. Returns an exit code. */
int demo_redirect(const char *lab_name, uint64_t rounds, uint64_t seconds, bool json);

/* config.c: the configuration of a command; EXIT_DONE, or everything that is wrong with it is on stderr. */
struct config;
int cmd_config(const char *command, const char *path, struct config **ret);

/*
 * lab.c: what the commands with a lab of their own share.
 *
 * Progress is one line on stderr, written over on a terminal, a line each elsewhere.
 */
void cmd_progress(const char *fmt, ...) _printf_(1, 2);
void cmd_progress_end(void);

/* How much the running waggle has joined since it started: pairs at their birth, and single sockets later. */
int cmd_joined(uint64_t *ret, struct err *err);

/* Refuses, by an exit code and a line, to run beside a waggle for the whole machine: nothing would be plain. */
int cmd_alone(const char *command);
