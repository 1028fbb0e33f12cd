// SPDX-License-Identifier: GPL-2.0
/* The packet hook in TC while somebody captures. */
#define PK_CAPTURE 1
#include "bpf/tc.bpf.c"
