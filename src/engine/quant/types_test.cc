#include "engine/quant/types.h"

#include <gtest/gtest.h>

namespace tandem::quant {
namespace {

TEST(TypesTest, SizesAreThoseOfTheFormat) {
  struct Row {
    uint32_t id;
    const char* name;
    int elements;
    int bytes;
  };
  for (const Row& row :
       {Row{0, "F32", 1, 4}, Row{1, "F16", 1, 2}, Row{2, "Q4_0", 32, 18}, Row{3, "Q4_1", 32, 20},
        Row{6, "Q5_0", 32, 22}, Row{8, "Q8_0", 32, 34}, Row{12, "Q4_K", 256, 144},
        Row{13, "Q5_K", 256, 176}, Row{14, "Q6_K", 256, 210}, Row{20, "IQ4_NL", 32, 18},
        Row{30, "BF16", 1, 2}}) {
    const TypeInfo* info = FindType(row.id);
    ASSERT_NE(info, nullptr) << row.name;
    EXPECT_EQ(static_cast<uint32_t>(info->type), row.id);
    EXPECT_EQ(info->name, row.name);
    EXPECT_EQ(info->block_elements, row.elements) << row.name;
    EXPECT_EQ(info->block_bytes, row.bytes) << row.name;
    EXPECT_EQ(GgmlTypeName(row.id), row.name);
  }
}

TEST(TypesTest, UnsupportedTypesHaveNamesAndWithdrawnOnesHaveNone) {
  EXPECT_EQ(FindType(10), nullptr);
  EXPECT_EQ(GgmlTypeName(10), "Q2_K");
  EXPECT_EQ(GgmlTypeName(22), "IQ2_S");
  EXPECT_EQ(GgmlTypeName(23), "IQ4_XS");
  EXPECT_EQ(GgmlTypeName(28), "F64");
  EXPECT_EQ(GgmlTypeName(29), "IQ1_M");
  EXPECT_EQ(GgmlTypeName(35), "TQ2_0");
  EXPECT_EQ(GgmlTypeName(39), "MXFP4");
  for (const uint32_t id : {4U, 5U, 31U, 32U, 33U, 36U, 37U, 38U, 43U, 0xFFFFFFFFU}) {
    EXPECT_EQ(FindType(id), nullptr) << id;
    EXPECT_EQ(GgmlTypeName(id), "") << id;
  }
}

TEST(TypesTest, RowBytesCountsWholeBlocks) {
  EXPECT_EQ(RowBytes(Type::kF32, 3), 12);
  EXPECT_EQ(RowBytes(Type::kQ4_K, 3072), 1728);
  EXPECT_EQ(RowBytes(Type::kQ6_K, 256), 210);
  EXPECT_EQ(RowBytes(Type::kQ8_0, 0), 0);
}

TEST(TypesTest, ParseTypeIgnoresCaseAndNamesTheChoices) {
  EXPECT_EQ(ParseType("q4_k").value(), Type::kQ4_K);
  EXPECT_EQ(ParseType("IQ4_NL").value(), Type::kIQ4_NL);
  EXPECT_EQ(ParseType("q4").error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(ParseType("q4").error().message.find("Q4_0"), std::string::npos);
}

}  // namespace
}  // namespace tandem::quant
