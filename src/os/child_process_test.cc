#include "os/child_process.h"

#include <signal.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::os {
namespace {

using ::testing::HasSubstr;
using End = ChildOutcome::End;
using std::chrono::milliseconds;

ChildOutcome Shell(const std::string& script, ChildOptions options = {}) {
  options.argv = {"/bin/sh", "-c", script};
  auto outcome = RunChild(options);
  if (!outcome) ADD_FAILURE() << outcome.error().message;
  return outcome ? *std::move(outcome) : ChildOutcome{};
}

TEST(ChildProcessTest, OutputsAndStatusComeBack) {
  const ChildOutcome outcome = Shell("echo to out; echo to err >&2; exit 3");
  EXPECT_EQ(outcome.end, End::kExited);
  EXPECT_EQ(outcome.code, 3);
  EXPECT_EQ(outcome.out, "to out\n");
  EXPECT_EQ(outcome.err, "to err\n");
  EXPECT_GT(outcome.peak_resident_bytes, 100'000u);
}

TEST(ChildProcessTest, ItsInputIsEmpty) { EXPECT_EQ(Shell("cat; echo end").out, "end\n"); }

TEST(ChildProcessTest, CrashIsItsSignal) {
  const ChildOutcome outcome = Shell("kill -SEGV $$");
  EXPECT_EQ(outcome.end, End::kSignalled);
  EXPECT_EQ(outcome.code, SIGSEGV);
}

TEST(ChildProcessTest, WhatHangsIsKilledWithAllThatItStarted) {
  // The grandchild holds the pipe; without it being killed too this would not return.
  const ChildOutcome outcome = Shell("sleep 1000 & sleep 1000", {.timeout = milliseconds(300)});
  EXPECT_EQ(outcome.end, End::kTimedOut);
}

TEST(ChildProcessTest, ChildrenThatOutliveItDoNotHoldUs) {
  const ChildOutcome outcome = Shell("sleep 1000 & echo done");
  EXPECT_EQ(outcome.end, End::kExited);
  EXPECT_EQ(outcome.out, "done\n");
}

TEST(ChildProcessTest, MemoryIsLimited) {
  // One buffer of that size.
  const std::string grow = "dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null && echo fits";
  EXPECT_EQ(Shell(grow).out, "fits\n");
  const ChildOutcome limited = Shell(grow, {.data_limit_bytes = 16 << 20});
  EXPECT_EQ(limited.out, "");
  EXPECT_NE(limited.code, 0);
  // What this process has resident counts until the program is loaded, so not much less.
  EXPECT_LT(limited.peak_resident_bytes, 64u << 20);
}

TEST(ChildProcessTest, OutputIsBounded) {
  const ChildOutcome outcome =
      Shell("i=0; while [ $i -lt 3000 ]; do echo $i; echo $i >&2; i=$((i+1)); done",
            {.max_output_bytes = 100});
  EXPECT_EQ(outcome.out.size(), 100u);
  EXPECT_EQ(outcome.out.substr(0, 6), "0\n1\n2\n");
  EXPECT_EQ(outcome.err.size(), 100u);
  EXPECT_EQ(outcome.err.substr(90), "2998\n2999\n");
}

TEST(ChildProcessTest, ProgramsThatCannotBeRunAreErrors) {
  EXPECT_EQ(RunChild({}).error().code, ErrorCode::kInvalidArgument);
  const auto missing = RunChild({.argv = {"/nowhere/program"}});
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("/nowhere/program"));
  EXPECT_EQ(RunChild({.argv = {"/etc/passwd"}}).error().code, ErrorCode::kPermissionDenied);
}

TEST(ChildProcessTest, OwnProgramIsThisTest) {
  EXPECT_EQ(OwnProgram().value().filename(), "os_test");
}

}  // namespace
}  // namespace tandem::os
