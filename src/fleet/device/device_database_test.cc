#include "fleet/device/device_database.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fleet/device/devices_json.h"

namespace tandem::fleet {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::string Found(std::string_view name) {
  const SocMatch match = DeviceDatabase::BuiltIn().Find(name);
  return match.soc == nullptr ? std::string() : match.soc->part;
}

TEST(DeviceDatabaseTest, TheEmbeddedTableParses) {
  const auto parsed = DeviceDatabase::Parse(DevicesJson());
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_GE(parsed->socs().size(), 40U);
}

TEST(DeviceDatabaseTest, EveryRowIsFoundByItsNamesPartAndVersions) {
  for (const Soc& soc : DeviceDatabase::BuiltIn().socs()) {
    EXPECT_EQ(Found(soc.name), soc.part);
    EXPECT_EQ(Found(soc.part), soc.part);
    EXPECT_EQ(Found(soc.vendor + " " + soc.name), soc.part);
    for (const std::string& alias : soc.aliases) EXPECT_EQ(Found(alias), soc.part);
    if (soc.vendor != "qualcomm" && soc.vendor != "mediatek") continue;
    EXPECT_EQ(Found(soc.part + "-AB"), soc.part);
    EXPECT_EQ(Found(soc.part + "P"), soc.part);
  }
}

TEST(DeviceDatabaseTest, ClientsSpellings) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"snapdragon_8_gen3", "SM8650"},
      {"Snapdragon 8 Gen 3", "SM8650"},
      {"snapdragon-8-gen-3", "SM8650"},
      {"Qualcomm Snapdragon 8 Gen 3 Mobile Platform", "SM8650"},
      {"8gen3", "SM8650"},
      {"sm8650", "SM8650"},
      {"SM8650-AB", "SM8650"},
      {"SM8650-AC", "SM8650"},
      {"qcom,sm8650", "SM8650"},
      {"Qualcomm Technologies, Inc SM8650", "SM8650"},
      {"SM8850P", "SM8850"},
      {"snapdragon_8s_gen3", "SM8635"},
      {"Snapdragon 8+ Gen 1", "SM8475"},
      {"snapdragon_8_plus_gen1", "SM8475"},
      {"Snapdragon 8 Gen 1", "SM8450"},
      {"snapdragon_8_elite", "SM8750"},
      {"snapdragon 8 elite gen 5", "SM8850"},
      {"snapdragon 8 gen 5", "SM8845"},
      {"dimensity_9300", "MT6989"},
      {"mediatek mt6989", "MT6989"},
      {"9300", "MT6989"},
      {"k6993v1_64", "MT6993"},
      {"exynos2400", "S5E9945"},
      {"s5e9945", "S5E9945"},
      {"Tensor G4", "zumapro"},
      {"google_tensor_g3", "zuma"},
      {"A17 Pro", "A17 Pro"},
      {"a18", "A18"},
      {"Apple A18 Pro", "A18 Pro"},
      {"kirin 9000s", "Hi36A0"},
  };
  for (const auto& [name, part] : cases) EXPECT_EQ(Found(name), part) << name;
}

TEST(DeviceDatabaseTest, AnAmbiguousNameGivesAllThatItFits) {
  const SocMatch match = DeviceDatabase::BuiltIn().Find("gen 3");
  EXPECT_EQ(match.soc, nullptr);
  EXPECT_GE(match.candidates.size(), 4U);
  std::vector<std::string> parts;
  for (const Soc* soc : match.candidates) parts.push_back(soc->part);
  EXPECT_THAT(parts, Contains("SM8650"));
  EXPECT_THAT(parts, Contains("SM8635"));
  EXPECT_THAT(match.Explain("gen 3"), HasSubstr("Snapdragon 8 Gen 3 (SM8650)"));
  EXPECT_THAT(match.Explain("gen 3"), HasSubstr("name one of them"));
  // Two parts in one name.
  EXPECT_EQ(DeviceDatabase::BuiltIn().Find("sm8650 sm8550").candidates.size(), 2U);
}

TEST(DeviceDatabaseTest, AnUnknownNameGivesTheNearest) {
  const auto& database = DeviceDatabase::BuiltIn();
  const SocMatch match = database.Find("snapdragon_8_gen4");
  EXPECT_EQ(match.soc, nullptr);
  EXPECT_THAT(match.candidates, IsEmpty());
  ASSERT_THAT(match.nearest, Not(IsEmpty()));
  EXPECT_THAT(match.Explain("snapdragon_8_gen4"), HasSubstr("did you mean"));
  EXPECT_THAT(match.Explain("snapdragon_8_gen4"), HasSubstr("Snapdragon 8s Gen 4"));
  // A plus is another part.
  EXPECT_EQ(database.Find("Dimensity 9300+").soc, nullptr);
  EXPECT_EQ(database.Find("Dimensity 9300+").nearest.front()->part, "MT6989");
  EXPECT_EQ(database.Find("sm8659").nearest.front()->part, "SM8650");
  for (const char* name :
       {"", "   ", "+++", "x", "Pentium III Coppermine at 866 MHz", "\xFF\xFE"}) {
    const SocMatch none = database.Find(name);
    EXPECT_EQ(none.soc, nullptr) << name;
    EXPECT_THAT(none.candidates, IsEmpty()) << name;
    EXPECT_THAT(none.nearest, IsEmpty()) << name;
    EXPECT_THAT(none.Explain(name), HasSubstr("is unknown; give its part number"));
  }
  EXPECT_EQ(database.Find(std::string(100000, 'a')).soc, nullptr);
}

TEST(DeviceDatabaseTest, FiguresAreThoseOfTheFacts) {
  const Soc* soc = DeviceDatabase::BuiltIn().Find("sm8650").soc;
  ASSERT_NE(soc, nullptr);
  EXPECT_EQ(soc->npu.generation, 75);
  EXPECT_EQ(soc->npu.int4_weights, Int4Weights::kGroups);
  EXPECT_EQ(soc->bandwidth_gb_s, 76.8);
  EXPECT_EQ(soc->bandwidth_basis, Basis::kRead);
  EXPECT_EQ(soc->min_driver->ToString(), "2.23");
  EXPECT_EQ(soc->qnn_soc_id, 57U);
  // What nobody published stays empty.
  const Soc* unknown = DeviceDatabase::BuiltIn().Find("sm7475").soc;
  EXPECT_EQ(unknown->npu.generation, std::nullopt);
  EXPECT_EQ(unknown->npu.int4_weights, std::nullopt);
  EXPECT_EQ(unknown->bandwidth_gb_s, std::nullopt);
  EXPECT_EQ(unknown->min_driver, std::nullopt);
}

TEST(DeviceDatabaseTest, AMalformedTableNamesThePlace) {
  const auto row = [](std::string_view npu, std::string_view memory, std::string_view more = "") {
    return fmt::format(
        R"({{"name":"N 1","vendor":"v","part":"P1","npu":{},"memory":{},"sources":["s"]{}}})", npu,
        memory, more);
  };
  const std::string npu = R"({"name":"n"})";
  const std::string memory = R"({"basis":"unknown"})";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"name":"N"})", "socs[0]: vendor is missing"},
      {row("7", memory), "npu must be an object"},
      {row(R"({"name":"n","int4_weights":"yes"})", memory), "int4_weights must be"},
      {row(npu, R"({"basis":"guessed"})"), "basis must be"},
      {row(npu, R"({"basis":"read"})"), "basis must be unknown where"},
      {row(npu, R"({"basis":"unknown","bandwidth_gb_s":1})"), "basis must be unknown where"},
      {row(npu, R"({"basis":"read","bandwidth_gb_s":0})"), "above 0"},
      {row(npu, memory, R"(,"ram_gb":[8])"), "ram_gb must be"},
      {row(npu, memory, R"(,"ram_gb":[8,4])"), "ram_gb must be"},
      {row(npu, memory, R"(,"min_driver":{"name":"d","version":"x"})"), "version must be"},
      {row(npu, memory, R"(,"aliases":["--"])"), "without letters"},
      {row(npu, memory) + R"(,{"name":"N1","vendor":"v","part":"P2","npu":{"name":"n"},)"
                          R"("memory":{"basis":"unknown"},"sources":["s"]})",
       "'n1' is both"},
  };
  EXPECT_TRUE(DeviceDatabase::Parse("{\"socs\":[" + row(npu, memory) + "]}"));
  for (const auto& [rows, message] : cases) {
    const auto parsed = DeviceDatabase::Parse("{\"socs\":[" + rows + "]}");
    ASSERT_FALSE(parsed) << rows;
    EXPECT_EQ(parsed.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(parsed.error().message, HasSubstr(message));
  }
}

}  // namespace
}  // namespace tandem::fleet
