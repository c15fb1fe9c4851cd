#include "engine/huge_page_mover.h"

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/package/testing/small_package.h"
#include "os/huge_pages.h"
#include "os/testing/temp_dir.h"

namespace tandem::engine {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

class HugePageMoverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!os::HugePagesAvailable()) GTEST_SKIP() << "this system has no huge pages";
    package::Writer writer(package::SmallModel());
    // 10 MB in strips, of which four or five are whole huge pages; a table that is not streamed.
    writer.Add(package::RowsTensor("token_embd.weight", quant::Type::kQ8_0, 10, 64),
               package::FillWith(1), package::Place::kNewBlock);
    writer.Add(package::StripsTensor("a", kernels::Scheme::kInt8G128, 4096, 1200),
               package::FillWith(2), package::Place::kNewBlock);
    writer.Add(package::StripsTensor("b", kernels::Scheme::kInt8G128, 4096, 1200),
               package::FillWith(3), package::Place::kBehind);
    ASSERT_TRUE(writer.Finish(path_, {}));
    file_ = package::File::Open(path_).value();
  }

  static HugePageMover::ReadMemory Available(uint64_t n_bytes) {
    return [n_bytes] { return os::MemoryStatus{.available_bytes = n_bytes}; };
  }

  const os::TempDir dir_;
  const std::filesystem::path path_ = dir_.path() / "model.tandem";
  std::shared_ptr<const package::File> file_;
};

TEST_F(HugePageMoverTest, StreamedWeightsMoveAndStayTheSame) {
  for (const HugePages mode : {HugePages::kOn, HugePages::kAuto}) {
    HugePageMover mover(file_, mode, Available(64 * kGiB));
    mover.Wait();
    EXPECT_GE(mover.moved_bytes(), 3 * os::kHugePageBytes);
    EXPECT_TRUE(file_->Verify({}, {}));
  }
}

TEST_F(HugePageMoverTest, AutoMovesNothingWhereMemoryIsShort) {
  HugePageMover mover(file_, HugePages::kAuto, Available(HugePageMover::kReserveBytes + (4 << 20)));
  mover.Wait();
  EXPECT_EQ(mover.moved_bytes(), 0U);
}

TEST_F(HugePageMoverTest, OnLeavesOthersTheReserve) {
  HugePageMover mover(file_, HugePages::kOn, Available(HugePageMover::kReserveBytes - 1));
  mover.Wait();
  EXPECT_EQ(mover.moved_bytes(), 0U);
}

TEST_F(HugePageMoverTest, NamesComeBack) {
  for (const HugePages mode : {HugePages::kOff, HugePages::kAuto, HugePages::kOn}) {
    EXPECT_EQ(ParseHugePages(HugePagesName(mode)).value(), mode);
  }
  const auto wrong = ParseHugePages("yes");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tandem::engine
