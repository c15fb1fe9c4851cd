#include "probe/probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/cpu.h"
#include "probe/machine_state.h"

namespace tandem::probe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

MachineState Quiet() {
  return {.read_bytes_per_second = 30e9,
          .core_to_core_ns = 32,
          .cpu = {.busy_s = 100, .idle_s = 1000, .stolen_s = 10, .process_s = 5}};
}

// Ten seconds of two cores later, all of them this process's work.
MachineState Later() {
  MachineState state = Quiet();
  state.cpu.busy_s += 18;
  state.cpu.process_s += 18;
  state.cpu.idle_s += 2;
  return state;
}

TEST(MachineStateTest, TheSameMachineWithOurOwnWorkIsNoChange) {
  MachineState after = Later();
  after.read_bytes_per_second = 27e9;
  after.core_to_core_ns = 36;
  const Disturbance seen = Compare(Quiet(), after);
  EXPECT_THAT(seen.changes, IsEmpty());
  EXPECT_DOUBLE_EQ(seen.stolen_share, 0);
  EXPECT_DOUBLE_EQ(seen.others_share, 0);
}

TEST(MachineStateTest, CoresThatMoveAreAChangeInEitherDirection) {
  MachineState moved = Later();
  moved.core_to_core_ns = 160;
  EXPECT_THAT(Compare(Quiet(), moved).changes, ElementsAre(HasSubstr("from 32 to 160 ns")));
  MachineState before = Quiet();
  before.core_to_core_ns = 160;
  EXPECT_THAT(Compare(before, Later()).changes, ElementsAre(HasSubstr("from 160 to 32 ns")));
}

TEST(MachineStateTest, BandwidthThatDropsIsAChange) {
  MachineState after = Later();
  after.read_bytes_per_second = 24e9;
  EXPECT_THAT(Compare(Quiet(), after).changes, ElementsAre(HasSubstr("30.0 to 24.0 GB/s")));
}

TEST(MachineStateTest, StolenTimeAndOtherProcessesAreChanges) {
  MachineState stolen = Later();
  stolen.cpu.stolen_s += 1;
  const Disturbance by_guests = Compare(Quiet(), stolen);
  EXPECT_NEAR(by_guests.stolen_share, 1.0 / 21, 1e-9);
  EXPECT_THAT(by_guests.changes, ElementsAre(HasSubstr("other guests")));
  MachineState shared = Later();
  shared.cpu.process_s -= 4;
  const Disturbance by_processes = Compare(Quiet(), shared);
  EXPECT_NEAR(by_processes.others_share, 0.2, 1e-9);
  EXPECT_THAT(by_processes.changes, ElementsAre(HasSubstr("other processes")));
}

TEST(ProbeTest, EveryProbeOfThisMachineGivesAFigure) {
  const auto buffer = ReadBuffer::Create(size_t{8} << 20);
  ASSERT_TRUE(buffer) << buffer.error().message;
  EXPECT_EQ(buffer->words().size_bytes(), size_t{8} << 20);
  EXPECT_GT(CoreReadBandwidth(buffer->words(), 1), 0);
  EXPECT_GT(ReadBandwidth(buffer->words(), 2, 1), 0);
  EXPECT_GT(ReadBandwidth(buffer->words(), 1, 2), 0);
  if (os::UsableCpuCount() > 1) {
    EXPECT_GT(CoreToCoreNanoseconds(), 0);
  }
  EXPECT_EQ(Int8Peak() > 0, std::string_view(Int8PeakInstructions()) != "none");
}

}  // namespace
}  // namespace tandem::probe
