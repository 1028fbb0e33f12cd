// SPDX-License-Identifier: GPL-2.0-or-later
/* The object as a whole: what it promises to user space, and that this kernel's verifier takes it. */
#include "fx.h"

#include <bpf/btf.h>

#define NAME_MAX_SHOWN 15 /* BPF_OBJ_NAME_LEN without the NUL */

/* The types that clang describes: keys, values and variables. test/lint/check-abi looks at the records too. */
static void test_abi_sizes(void **state)
{
	static const struct {
		const char *name;
		size_t bytes;
	} abi[] = {
		{ "ac_exe_key", sizeof(struct ac_exe_key) },
		{ "ac_exe", sizeof(struct ac_exe) },
		{ "ac_key", sizeof(struct ac_key) },
		{ "ac_sock", sizeof(struct ac_sock) },
		{ "ac_pend", sizeof(struct ac_pend) },
		{ "ac_peer", sizeof(struct ac_peer) },
		{ "ac_pends", sizeof(struct ac_pends) },
		{ "ac_ctl", sizeof(struct ac_ctl) },
		{ "ac_move_args", sizeof(struct ac_move_args) },
	};
	struct bpf_object *obj = fx_object();
	const struct btf *btf = bpf_object__btf(obj);

	for (size_t i = 0; i < ARRAY_SIZE(abi); i++) {
		int id = btf__find_by_name_kind(btf, abi[i].name, BTF_KIND_STRUCT);

		if (id < 0)
			fail_msg("struct %s is not in the object", abi[i].name);
		if ((size_t)btf__resolve_size(btf, (uint32_t)id) != abi[i].bytes)
			fail_msg("struct %s: %zu bytes here, %lld in the object", abi[i].name, abi[i].bytes,
				 (long long)btf__resolve_size(btf, (uint32_t)id));
	}
	bpf_object__close(obj);
}

/* Keys and values of the maps are the structs of the abi, whole. */
static void test_map_shapes(void **state)
{
	static const struct {
		const char *name;
		size_t key, value;
	} maps[] = {
		{ "ac_socks", 8, 8 },
		{ "ac_sk", 4, sizeof(struct ac_sock) },
		{ "ac_pend", 4, sizeof(struct ac_pends) },
		{ "ac_peers", 8, sizeof(struct ac_peer) },
		{ "ac_exes", sizeof(struct ac_exe_key), sizeof(struct ac_exe) },
		{ "ac_ports", 4, 1 },
		{ "ac_ctl", 4, sizeof(struct ac_ctl) },
		{ "ac_stats", 4, 8 },
	};
	struct bpf_object *obj = fx_object();

	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(obj, maps[i].name);

		if (!map)
			fail_msg("there is no map %s", maps[i].name);
		assert_int_equal(bpf_map__key_size(map), maps[i].key);
		assert_int_equal(bpf_map__value_size(map), maps[i].value);
	}
	bpf_object__close(obj);
}

static void test_names(void **state)
{
	struct bpf_object *obj = fx_object();
	struct bpf_program *prog;
	struct bpf_map *map;

	bpf_object__for_each_program(prog, obj) {
		assert_int_equal(strncmp(bpf_program__name(prog), "ac_", 3), 0);
		assert_true(strlen(bpf_program__name(prog)) <= NAME_MAX_SHOWN);
	}
	bpf_object__for_each_map(map, obj) {
		/* Sections (.rodata and the like) are named by libbpf. */
		if (bpf_map__name(map)[0] == '.' || strchr(bpf_map__name(map), '.'))
			continue;
		assert_int_equal(strncmp(bpf_map__name(map), "ac_", 3), 0);
		assert_true(strlen(bpf_map__name(map)) <= NAME_MAX_SHOWN);
	}
	bpf_object__close(obj);
}

/* All that does not need fentry, which some hosts refuse. */
static void test_verifier(void **state)
{
	struct bpf_object *obj = fx_object();
	struct bpf_program *prog;
	int loaded = 0;

	assert_int_equal(bpf_object__load(obj), 0);
	bpf_object__for_each_program(prog, obj) {
		if (!bpf_program__autoload(prog))
			continue;
		if (bpf_program__fd(prog) < 0)
			fail_msg("%s was not loaded", bpf_program__name(prog));
		loaded++;
	}
	assert_true(loaded >= 8);
	bpf_object__close(obj);
}

/* The smallest table there may be, and a large one. */
static void test_sizes(void **state)
{
	static const uint32_t sizes[] = { 2, 1 << 20 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct bpf_object *obj = fx_object();
		struct bpf_map *map = bpf_object__find_map_by_name(obj, "ac_socks");

		assert_int_equal(bpf_map__set_max_entries(map, sizes[i]), 0);
		assert_int_equal(bpf_object__load(obj), 0);
		bpf_object__close(obj);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_abi_sizes), cmocka_unit_test(test_map_shapes), cmocka_unit_test(test_names),
		cmocka_unit_test(test_verifier),  cmocka_unit_test(test_sizes),
	};

	return cmocka_run_group_tests_name("load", tests, NULL, NULL);
}
