#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0-or-later
# usage: echo.pl PORT: answers a request for an upgrade with 101, and then says what it hears, on many connections.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;

my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1:$ARGV[0]", Listen => 64, ReuseAddr => 1, Blocking => 0) or die $@;
my $select = IO::Select->new($server);
my %head;
while (my @ready = $select->can_read) {
	for my $fh (@ready) {
		if ($fh == $server) {
			my $new = $server->accept or next;
			$new->blocking(0);
			$select->add($new);
			$head{$new} = "";
			next;
		}
		my $n = sysread($fh, my $data, 65536);
		next if !defined $n && $!{EAGAIN};
		if (!$n) {
			$select->remove($fh);
			close $fh;
			next;
		}
		if (defined $head{$fh}) {
			$head{$fh} .= $data;
			next unless $head{$fh} =~ s/^.*?\r\n\r\n//s;
			$data = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n$head{$fh}";
			delete $head{$fh};
		}
		# What is said here is short, and is heard before more is said.
		defined syswrite($fh, $data) or die "write: $!";
	}
}
