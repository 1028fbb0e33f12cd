// SPDX-License-Identifier: GPL-2.0-or-later
#include "sys/elf.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>

#include "base/util.h"

static void elf_endp(Elf **elf)
{
	if (*elf)
		(void)elf_end(*elf);
}

static bool dynsym_has(Elf *elf, Elf_Scn *scn, const GElf_Shdr *shdr, const char *name)
{
	Elf_Data *data = elf_getdata(scn, NULL);
	size_t n = shdr->sh_entsize ? shdr->sh_size / shdr->sh_entsize : 0;

	for (size_t i = 0; data && i < n; i++) {
		const char *sym_name;
		GElf_Sym sym;

		if (!gelf_getsym(data, (int)i, &sym))
			break;
		sym_name = elf_strptr(elf, shdr->sh_link, sym.st_name);
		if (sym_name && streq(sym_name, name))
			return true;
	}
	return false;
}

int elf_can_splice(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_(elf_endp) Elf *elf = NULL;
	bool has_dynsym = false;
	Elf_Scn *scn = NULL;
	size_t names;

	if (fd < 0)
		return -errno;
	if (elf_version(EV_CURRENT) == EV_NONE)
		return -ENOTSUP;
	elf = elf_begin(fd, ELF_C_READ, NULL);
	if (!elf || elf_kind(elf) != ELF_K_ELF || elf_getshdrstrndx(elf, &names))
		return 1; /* unreadable, so in doubt */
	while ((scn = elf_nextscn(elf, scn))) {
		const char *name;
		GElf_Shdr shdr;

		if (!gelf_getshdr(scn, &shdr))
			return 1;
		name = elf_strptr(elf, names, shdr.sh_name);
		if (name && (streq(name, ".go.buildinfo") || streq(name, ".note.go.buildid")))
			return 1;
		if (shdr.sh_type != SHT_DYNSYM)
			continue;
		has_dynsym = true;
		if (dynsym_has(elf, scn, &shdr, "splice"))
			return 1;
	}
	return !has_dynsym;
}
