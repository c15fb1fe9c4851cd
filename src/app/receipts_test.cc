#include "app/receipts.h"

#include <span>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crypto/digest.h"
#include "os/testing/temp_dir.h"

namespace tandem::app {
namespace {

using testing::HasSubstr;

class ReceiptsTest : public testing::Test {
 protected:
  std::string Sign(std::string_view request_id, std::string_view body) {
    gateway::privacy::ReceiptFacts facts;
    facts.request_id = request_id;
    facts.answer_sha256 = crypto::Sha256Hex("the answer");
    facts.attempts = {{.target = "cloud"}};
    if (!body.empty()) {
      facts.attempts[0].egress = {"cloud:443", body.size(), crypto::Sha256Hex(body)};
    }
    return signer_->Sign(std::span(&facts, 1)).front() + "\n";
  }
  ReceiptQuestion About(std::string receipts) const {
    return {.receipts = std::move(receipts),
            .public_key = ReceiptPublicKey(directory_.path()).value(),
            .sent_body = {},
            .answer = {}};
  }

  os::TempDir directory_;
  std::unique_ptr<gateway::privacy::ReceiptSigner> signer_ =
      gateway::privacy::ReceiptSigner::Open(ReceiptKeyFile(directory_.path()), "").value();
};

TEST_F(ReceiptsTest, ADirectoryWithoutAKeySaysHowToGetOne) {
  os::TempDir empty;
  const auto key = ReceiptPublicKey(empty.path());
  ASSERT_FALSE(key);
  EXPECT_EQ(key.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(key.error().message, HasSubstr("tandem serve"));
}

TEST_F(ReceiptsTest, AChainOfReceiptsVerifies) {
  const auto receipts = VerifyReceipts(About(Sign("a", "") + Sign("b", "body") + Sign("c", "")));
  ASSERT_TRUE(receipts) << receipts.error().message;
  ASSERT_EQ(receipts->size(), 3u);
  EXPECT_EQ((*receipts)[1].request_id, "b");
  EXPECT_EQ((*receipts)[1].egress[0].n_bytes, 4u);
}

TEST_F(ReceiptsTest, OneThatIsLeftOutIsAGapButOneThatIsReplacedBreaksTheChain) {
  const std::string a = Sign("a", "");
  const std::string b = Sign("b", "");
  const std::string c = Sign("c", "");
  EXPECT_TRUE(VerifyReceipts(About(a + c)));
  // The same key continued the chain from `a` twice.
  signer_ = gateway::privacy::ReceiptSigner::Open(ReceiptKeyFile(directory_.path()),
                                                  a.substr(0, a.size() - 1))
                .value();
  const std::string other_b = Sign("x", "");
  EXPECT_TRUE(VerifyReceipts(About(a + other_b)));
  const auto broken = VerifyReceipts(About(a + other_b + c));
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code, ErrorCode::kPermissionDenied);
  EXPECT_THAT(broken.error().message, HasSubstr("line 3"));
}

TEST_F(ReceiptsTest, AChangedLineIsNamed) {
  std::string changed = Sign("a", "") + Sign("b", "");
  changed[changed.size() - 20] ^= 1;
  EXPECT_THAT(VerifyReceipts(About(changed)).error().message, HasSubstr("line 2: "));
  EXPECT_EQ(VerifyReceipts(About("")).error().code, ErrorCode::kInvalidArgument);
  ReceiptQuestion no_key = About(Sign("c", ""));
  no_key.public_key = "no key";
  EXPECT_EQ(VerifyReceipts(no_key).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(ReceiptsTest, TheBodyAndTheAnswerAreLookedFor) {
  ReceiptQuestion question = About(Sign("a", "") + Sign("b", "body"));
  question.sent_body = "body";
  question.answer = "the answer";
  EXPECT_TRUE(VerifyReceipts(question));
  question.sent_body = "bodY";
  EXPECT_THAT(VerifyReceipts(question).error().message, HasSubstr("this body"));
  question.sent_body.reset();
  question.answer = "another";
  EXPECT_THAT(VerifyReceipts(question).error().message, HasSubstr("this answer"));
}

}  // namespace
}  // namespace tandem::app
