# Runs TAP files one after the other (or --jobs at a time) and tells the number of passed and failed tests in a form
# that run.sh adds up.  A file that died, stopped early or ran no test counts as one failure even if no single test
# failed, and so does a skipped one: a test that does not run proves nothing.
#
#   perl tap_run.pl [--jobs N] [--timeout SECONDS] [--assert BINDIR] RESULT_FILE FILE...
#
# --assert: files with a line "# with assertions" get the programs of BINDIR, which were built with them, and memory
# that was freed is overwritten there, so that what is used afterwards is seen.
use strict;
use warnings;
use Getopt::Long;
use TAP::Harness;

my ($jobs, $timeout, $assert) = (1, 600);
GetOptions('jobs=i' => \$jobs, 'timeout=i' => \$timeout, 'assert=s' => \$assert) or exit 2;
my ($result, @files) = @ARGV;
die "no test files\n" unless @files;
# those that take longest begin, or all others would be done when they still run
my %first = do { my $n = 0; map { $_ => $n++ } qw(060 065 091 090 092 058 100 110 050 111 085 081 114) };
my $order = sub { $_[0] =~ m{(?:^|/)(\d+)_} && exists $first{$1} ? $first{$1} : scalar keys %first };
@files = sort { $order->($a) <=> $order->($b) } @files;    # Perl's sort is stable

sub with_assertions
{
	my ($file) = @_;
	open(my $in, '<', $file) or die "$file: $!\n";
	return scalar grep { $_ eq "# with assertions\n" } <$in>;
}

sub command
{
	my (undef, $file) = @_;
	my @env = defined $assert && with_assertions($file) ? ('env', "PATH=$assert:$ENV{PATH}", 'MALLOC_PERTURB_=165') : ();
	return [ @env, 'timeout', '--kill-after=30', $timeout, $^X, $file ];
}

my $harness = TAP::Harness->new({
	verbosity => 0,
	jobs      => $jobs,
	timer     => 1,
	failures  => 1,
	color     => 0,
	exec      => \&command,
});
my $aggregate = $harness->runtests(@files);
my ($passed, $failed) = (0, 0);
for my $parser ($aggregate->parsers)
{
	my $bad = scalar $parser->failed;
	$passed += $parser->passed;
	if ($parser->skip_all)
	{
		print "skipped as a whole: ", $parser->skip_all, "\n";
		$bad++;
	}
	elsif (!$bad && ($parser->has_problems || !$parser->tests_run))
	{
		$bad++;
	}
	print "skipped: ", scalar $parser->skipped, " tests\n" if $parser->skipped && !$parser->skip_all;
	$failed += $bad;
}
open(my $out, '>', $result) or die "$result: $!\n";
print $out "$passed $failed\n";
close($out) or die "$result: $!\n";
exit($failed ? 1 : 0);
