/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * Could the program in this file call splice(2)? 1: it imports splice, or is a static or Go program, whose calls
 * cannot be seen from outside; 0: no; -errno: the file cannot be read. A library that it loads is not looked at.
 */
int elf_can_splice(const char *path);
