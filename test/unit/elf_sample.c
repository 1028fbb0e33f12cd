// SPDX-License-Identifier: GPL-2.0-or-later
/* Programs for test_elf to look at; built several times, with and without SAMPLE_SPLICE and SAMPLE_GO. */
#include <fcntl.h>
#include <stdio.h>

#ifdef SAMPLE_GO
/* The section by which the tools of Go know their programs. */
__attribute__((section(".go.buildinfo"), used)) static const char buildinfo[16] = "\xff Go buildinf:";
#endif

int main(void)
{
#ifdef SAMPLE_SPLICE
	if (splice(0, NULL, 1, NULL, 1, 0) < 0)
		return 1;
#endif
	return puts("sample") < 0;
}
