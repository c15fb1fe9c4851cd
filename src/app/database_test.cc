#include "app/database.h"

#include <cstdlib>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/keys.h"
#include "store/testing/test_databases.h"

namespace tandem::app {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class StatePlaceTest : public store::DatabaseTestOf {
 protected:
  // A node's place; nodes share what a shared database holds.
  StatePlace Node(const std::string& name) const {
    return {.data_dir = directory() / name, .store = {.url = url()}, .directory = directory()};
  }
};
INSTANTIATE_TEST_SUITE_P(Databases, StatePlaceTest,
                         ::testing::Values(store::DatabaseKind::kPostgres), store::DatabaseName);

TEST_P(StatePlaceTest, NodesThatShareDatabaseAndPepperKnowEachOthersKeys) {
  const RealClock clock;
  auto first = Keys::Open(Node("a"), &clock);
  ASSERT_TRUE(first) << first.error().message;
  const auto created = (*first)->ring().Create("app");
  ASSERT_TRUE(created) << created.error().message;
  // Without the pepper no key could be verified, which is told at the start.
  const auto without = Keys::Open(Node("b"), &clock);
  ASSERT_FALSE(without);
  EXPECT_EQ(without.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(without.error().message, HasSubstr("copy it from"));
  std::filesystem::copy_file(directory() / "a/key-pepper", directory() / "b/key-pepper");
  std::filesystem::permissions(directory() / "b/key-pepper", std::filesystem::perms::owner_read);
  auto second = Keys::Open(Node("b"), &clock);
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_TRUE((*second)->ring().Verify(created->text));
  // Two that start before there is any key would each make a pepper.
  std::filesystem::create_directory(directory() / "c");
  std::ofstream(directory() / "c/key-pepper") << std::string(64, 'a');
  std::filesystem::permissions(directory() / "c/key-pepper", std::filesystem::perms::owner_read);
  const auto other = Keys::Open(Node("c"), &clock);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(other.error().message, HasSubstr("another pepper"));
}

TEST_P(StatePlaceTest, PasswordComesFromVariableOrFileAndIsNeverShown) {
  StatePlace place = Node("a");
  place.store.password_env = "TANDEM_TEST_NO_SUCH_VARIABLE";
  EXPECT_EQ(OpenDatabase(place).error().code, ErrorCode::kFailedPrecondition);
  ::setenv("TANDEM_TEST_PASSWORD", "hunter2", 1);
  place.store.password_env = "TANDEM_TEST_PASSWORD";
  EXPECT_TRUE(OpenDatabase(place));
  place.store.url = "postgresql://tandem@/x?host=/nonexistent";
  const auto nobody = OpenDatabase(place);
  EXPECT_EQ(nobody.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(nobody.error().message, Not(HasSubstr("hunter2")));
  place = Node("a");
  place.store.password_file = "password";
  EXPECT_EQ(OpenDatabase(place).error().code, ErrorCode::kNotFound);
  std::ofstream(directory() / "password") << "\n";
  EXPECT_EQ(OpenDatabase(place).error().code, ErrorCode::kFailedPrecondition);
  std::ofstream(directory() / "password") << "hunter2\n";
  EXPECT_TRUE(OpenDatabase(place));
}

}  // namespace
}  // namespace tandem::app
