#include "app/doctor.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/temp_dir.h"

namespace tandem::app {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

class DoctorTest : public ::testing::Test {
 protected:
  void File(const std::string& path, std::string_view text) const {
    const auto file = root_.path() / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  DoctorReport Run() const {
    return Examine({.data_dir = data_.path(), .root = root_.path()}, FakeClock());
  }

  const os::TempDir root_;
  const os::TempDir data_;
};

TEST_F(DoctorTest, ReportsThisMachineAndItsModels) {
  File("proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n");
  const DoctorReport report = Run();
  EXPECT_GT(report.usable_cores, 0);
  EXPECT_NE(report.instruction_set, "");
  EXPECT_TRUE(report.free_disk_bytes);
  EXPECT_FALSE(report.bandwidth_bytes_per_s);
  const auto demo = std::ranges::find(report.models, "demo", &DoctorReport::InstalledModel::name);
  ASSERT_NE(demo, report.models.end());
  EXPECT_TRUE(demo->certified) << demo->certificate;
  EXPECT_THAT(demo->certificate, HasSubstr("kept 100.8 %"));
  EXPECT_THAT(report.findings, Not(Contains(HasSubstr("cgroup"))));
}

TEST_F(DoctorTest, SaysWhatStandsInTheWay) {
  File("proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n");
  File("proc/self/cgroup", "0::/box\n");
  File("sys/fs/cgroup/box/memory.max", "2000000000\n");
  File("sys/fs/cgroup/box/memory.current", "0\n");
  File("dev/dri/renderD128", "");
  File("sys/class/thermal/thermal_zone0/temp", "90000\n");
  File("sys/class/thermal/thermal_zone0/trip_point_0_type", "passive\n");
  File("sys/class/thermal/thermal_zone0/trip_point_0_temp", "80000\n");
  File("sys/class/power_supply/BAT/type", "Battery\n");
  File("sys/class/power_supply/BAT/status", "Discharging\n");
  File("sys/class/power_supply/BAT/capacity", "9\n");
  const DoctorReport report = Run();
  EXPECT_THAT(report.findings,
              Contains(HasSubstr("a cgroup allows 2.0 GB of the machine's 8.2 GB")));
  EXPECT_THAT(report.findings, Contains(HasSubstr("slows down")));
  EXPECT_THAT(report.findings, Contains("the battery is at 9 %"));
  EXPECT_THAT(report.findings, Contains(HasSubstr("no Vulkan loader")));
}

TEST_F(DoctorTest, AMachineWithoutProcIsAFinding) {
  EXPECT_THAT(Run().findings, Contains(HasSubstr("the memory is unknown")));
}

}  // namespace
}  // namespace tandem::app
