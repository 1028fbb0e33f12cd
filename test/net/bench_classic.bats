#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The classic comparison measures every way through the scene without an error, and leaves nothing. No speed is asserted.

load ../lib/net.bash
load ../lib/bench.bash

export PAGE_CHECK=$BATS_TEST_DIRNAME/../tools/page_check.py
export WAGGLE_BENCH_LAB=waggle-bench-cl-test-$$

# One page: every element is ended, and nothing is run or fetched.
whole_page() {
	python3 - "$1" <<'END'
import sys
from html.parser import HTMLParser


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.bad, self.seen = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        if tag in ("script", "link", "img", "iframe") or any(
                k in ("src", "href", "srcset", "data", "action") or k.startswith("on") or
                (k.endswith(":href") and not v.startswith("#")) or "url(" in (v or "").replace("url(#", "")
                for k, v in attrs):
            self.bad.append((tag, attrs))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.bad.append(("end", tag))


page = Page()
page.feed(open(sys.argv[1]).read())
page.close()
sys.exit(f"{page.bad} {page.open}" if page.bad or page.open or not {"svg", "table", "details"} <= page.seen else 0)
END
}

# One row: wrk has met no error, and where sockets are to be joined they were, or there would be no sample.
every_way() {
	"$WAGGLE" bench classic --row latency --rounds 1 --seconds 1 --json --report "$WORK/report" >"$WORK/bench.json" 2>"$WORK/bench.err" || {
		cat "$WORK/bench.err" >&2
		return 1
	}
	jq -e '.ways == ["nginx", "nginx-joined", "haproxy", "nftables", "xdp-generic", "xdp", "tc", "connect", "connect-joined"]
		and (.ways as $ways | all(.rows[]; .skipped == null and (.ways | keys) == ($ways | sort)
		and all(.ways[]; (.samples | length) == 1 and .median > 0 and .cpu_us_median > 0)
		and all(.ratios[]; .interval.low <= .of_medians and .of_medians <= .interval.high)))' "$WORK/bench.json" || {
		cat "$WORK/bench.json" "$WORK/bench.err" >&2
		return 1
	}
	whole_page "$WORK/report/classic.html"
	# The published gains stand beside, with the machine.
	for words in 'Published gains' '+10.8 %' '+30.8 %' 'Processors' 'Kernel'; do
		grep -qF -- "$words" "$WORK/report/classic.html"
	done
	"$PAGE_CHECK" "file://$WORK/report/classic.html" "$TOOLS/../../screenshots" report
	nothing_left
}

@test "bench classic: every way answers, and nothing is left" {
	for program in haproxy nginx wrk nft ethtool gnuplot; do
		command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || skip "$program is missing: sudo tools/install-deps"
	done
	TEST_SECONDS=240 inside every_way
}
