/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One option of each kind, for the test and for the fuzzer of what reads them. */
#pragma once

#include "cmd/cmd.h"

struct args {
	bool json;
	const char *dir;
	struct opt_list port;
	uint64_t rounds;
};

#define ROUNDS_MAX 100

static const struct opt table[] = {
	{ "json", OPT_FLAG, NULL, "as JSON", offsetof(struct args, json), 0, 0 },
	{ "dir", OPT_STRING, "DIR", "a directory", offsetof(struct args, dir), 0, 0 },
	{ "port", OPT_LIST, "LIST", "ports", offsetof(struct args, port), 0, 0 },
	{ "rounds", OPT_U64, "N", "how often", offsetof(struct args, rounds), 1, ROUNDS_MAX },
	{ 0 },
};
