// SPDX-License-Identifier: GPL-2.0
/* The packet hook in XDP while somebody captures. */
#define PK_CAPTURE 1
#include "bpf/xdp.bpf.c"
