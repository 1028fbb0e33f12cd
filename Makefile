# SPDX-License-Identifier: GPL-2.0-or-later
# The usual words for what meson does. sudo make demo, sudo make test: install what is missing, build, run.
BUILD ?= build
DEMO ?=

all: $(BUILD)/build.ninja
	@meson compile -C $(BUILD)

$(BUILD)/build.ninja:
	@meson setup $(BUILD)

# Not prerequisites of each other: the packages must be there before meson looks for them, with -j too.
demo:
	@tools/install-deps build demo
	@$(MAKE) --no-print-directory all
	@$(BUILD)/waggle demo $(DEMO)

test:
	@tools/install-deps build demo test
	@$(MAKE) --no-print-directory all
	@test/run

# Debian's kernels, emulated: what the kernel at hand may refuse is tried there.
test-kernels:
	@tools/install-deps build test
	@$(MAKE) --no-print-directory all
	@test/kernels/run $(BUILD)

# Real programs and their test suites, plain and joined: half an hour.
test-real:
	@tools/install-deps build test real
	@$(MAKE) --no-print-directory all
	@test/run real

# waggle_VERSION_ARCH.deb, in the build directory.
deb:
	@tools/install-deps build deb
	@$(MAKE) --no-print-directory all
	@tools/deb $(BUILD) $(BUILD)

clean:
	rm -rf $(BUILD)

install: all
	@meson install -C $(BUILD)

.PHONY: all demo test test-kernels test-real clean install deb
