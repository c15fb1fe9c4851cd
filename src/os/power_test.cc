#include "os/power.h"

#include <filesystem>
#include <string_view>

#include <gtest/gtest.h>

#include "os/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::os {
namespace {

class PowerTest : public testing::Test {
 protected:
  void Write(std::string_view path, std::string_view text) {
    const std::filesystem::path file = root_ / path;
    std::filesystem::create_directories(file.parent_path());
    ASSERT_TRUE(WriteFileAtomic(file, text));
  }
  TempDir root_;
};

TEST_F(PowerTest, MachineWithoutEitherIsUnknown) {
  const PowerStatus status = ReadPowerStatus(root_ / "");
  EXPECT_FALSE(status.battery_share);
  EXPECT_FALSE(status.hot);
}

TEST_F(PowerTest, DischargingBatteryCountsAndTheLowestOfSeveral) {
  Write("sys/class/power_supply/BAT0/type", "Battery\n");
  Write("sys/class/power_supply/BAT0/status", "Discharging\n");
  Write("sys/class/power_supply/BAT0/capacity", "34\n");
  EXPECT_EQ(ReadPowerStatus(root_ / "").battery_share, 0.34);
  Write("sys/class/power_supply/BAT1/type", "Battery\n");
  Write("sys/class/power_supply/BAT1/status", "Discharging\n");
  Write("sys/class/power_supply/BAT1/capacity", "12\n");
  EXPECT_EQ(ReadPowerStatus(root_ / "").battery_share, 0.12);
}

TEST_F(PowerTest, MainsChargingPeripheralsAndNonsenseDoNot) {
  Write("sys/class/power_supply/AC/type", "Mains\n");
  Write("sys/class/power_supply/BAT0/type", "Battery\n");
  Write("sys/class/power_supply/BAT0/status", "Charging\n");
  Write("sys/class/power_supply/BAT0/capacity", "3\n");
  Write("sys/class/power_supply/mouse/type", "Battery\n");
  Write("sys/class/power_supply/mouse/scope", "Device\n");
  Write("sys/class/power_supply/mouse/status", "Discharging\n");
  Write("sys/class/power_supply/mouse/capacity", "2\n");
  Write("sys/class/power_supply/BAT9/type", "Battery\n");
  Write("sys/class/power_supply/BAT9/status", "Discharging\n");
  Write("sys/class/power_supply/BAT9/capacity", "250\n");
  EXPECT_FALSE(ReadPowerStatus(root_ / "").battery_share);
}

TEST_F(PowerTest, ZoneAboveItsPassiveTripPointIsHot) {
  Write("sys/class/thermal/thermal_zone0/temp", "71000\n");
  Write("sys/class/thermal/thermal_zone0/trip_point_0_type", "critical\n");
  Write("sys/class/thermal/thermal_zone0/trip_point_0_temp", "70000\n");
  EXPECT_FALSE(ReadPowerStatus(root_ / "").hot) << "critical alone is the hardware's business";
  Write("sys/class/thermal/thermal_zone0/trip_point_1_type", "passive\n");
  Write("sys/class/thermal/thermal_zone0/trip_point_1_temp", "80000\n");
  EXPECT_FALSE(ReadPowerStatus(root_ / "").hot);
  Write("sys/class/thermal/thermal_zone0/temp", "80000\n");
  EXPECT_TRUE(ReadPowerStatus(root_ / "").hot);
}

}  // namespace
}  // namespace tandem::os
