#!/usr/bin/perl
# SPDX-License-Identifier: MIT
# api.pl HEADER MAP: every function that MAP exports is declared in HEADER, and the other way
# round; every declaration stands under a comment that names it; and that comment is either
# one line (an accessor's) or has the headings Ownership, Context, Return and Since, in order.
use strict;
use warnings;

my ($header, $map) = @ARGV;
my $bad = 0;

sub slurp { local (@ARGV, $/) = (shift); my $text = <>; return $text; }
sub complain { print @_, "\n"; $bad = 1; }

my $text = slurp($header);
my %declared;

# A comment and the declarations that follow it without an empty line.
while ($text =~ m{(/\*\*(?:(?!\*/).)*\*/)\n((?:UMM_API[^;]*;\n)+)}gs) {
	my ($comment, $declarations, $at) = ($1, $2, $-[2]);
	my $line = 1 + (substr($text, 0, $at) =~ tr/\n//);
	while ($declarations =~ m{^UMM_API[^;(]*\b(\w+)\(}gm) {
		my $name = $1;
		$declared{$name} = 1;
		$comment =~ m{\b$name\(\)} or
			complain("$header:$line: the comment above $name() does not name it");
		next if $comment !~ /\n/;
		$comment =~ m{^ \* Ownership:.*^ \* Context:.*^ \* Return:.*^ \* Since:}sm or
			complain("$header:$line: $name() lacks one of Ownership, Context, Return, ",
				 "Since, in this order");
	}
}

while ($text =~ m{^UMM_API[^;(]*\b(\w+)\(}gm) {
	complain("$header: no comment stands above $1()") if !$declared{$1};
	$declared{$1} = 1;
}

my %exported = map { $_ => 1 } slurp($map) =~ m{^\t(\w+);$}gm;
for my $name (sort keys %exported) {
	complain("$map: $name is exported but not declared in $header") if !$declared{$name};
}
for my $name (sort keys %declared) {
	complain("$header: $name() is declared but not exported by $map") if !$exported{$name};
}
exit $bad;
