// SPDX-License-Identifier: GPL-2.0
/* The shared maps without a program: what user space makes and pins before any hook is loaded. */
#include "bpf/lb_maps.bpf.h"

char LICENSE[] SEC("license") = "GPL";
