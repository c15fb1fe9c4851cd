#include "gateway/privacy/receipt.h"

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "crypto/digest.h"
#include "os/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::gateway::privacy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ReceiptTest : public testing::Test {
 protected:
  std::unique_ptr<ReceiptSigner> Open(std::string_view last = {}) {
    return ReceiptSigner::Open(directory_.path() / "receipt-key.pem", last).value();
  }
  static std::string SignOne(ReceiptSigner& signer) {
    const ReceiptFacts facts = Facts();
    return signer.Sign(std::span(&facts, 1)).front();
  }
  static std::vector<std::string> SignMany(ReceiptSigner& signer, size_t n) {
    std::vector<ReceiptFacts> batch;
    for (size_t i = 0; i < n; ++i) {
      batch.push_back(Facts());
      batch.back().request_id = "req-" + std::to_string(i);
    }
    return signer.Sign(batch);
  }
  // What Tandem wrote before receipts were signed in batches.
  static std::string FormOne(const crypto::SigningKey& key, std::string payload) {
    const std::string signature = key.Sign(payload);
    payload.pop_back();
    const std::span bytes(reinterpret_cast<const uint8_t*>(signature.data()), signature.size());
    return payload + ",\"signature\":\"" + crypto::Hex(bytes) + "\"}";
  }
  static ReceiptFacts Facts() {
    ReceiptFacts facts;
    facts.request_id = "req-1";
    facts.time = SystemTime(std::chrono::milliseconds(1'700'000'000'042));
    facts.policy_sha256 = crypto::Sha256Hex("policy");
    facts.privacy = Privacy::kRedacted;
    facts.key_id = "Ab3dEf9h";
    facts.answer_sha256 = crypto::Sha256Hex("answer");
    facts.attempts = {{.target = "device-small",
                       .model = "phi-4-mini",
                       .tier = Tier::kDeviceSmall,
                       .outcome = AttemptOutcome::kHandedOff,
                       .usage = {10, 5, 2},
                       .text_begin = 0,
                       .text_end = 20},
                      {.target = "cloud",
                       .model = "deepseek-v3.2",
                       .tier = Tier::kCloud,
                       .outcome = AttemptOutcome::kAnswered,
                       .usage = {12, 7, 0},
                       .usage_estimated = true,
                       .text_begin = 20,
                       .text_end = 50,
                       .egress = Egress{"api.deepseek.com:443", 321, crypto::Sha256Hex("body")}}};
    return facts;
  }

  // The key that Open signs with.
  crypto::SigningKey ReadKey() {
    Open();
    return crypto::SigningKey::FromPem(
               os::ReadFile(directory_.path() / "receipt-key.pem", 4096).value())
        .value();
  }

  os::TempDir directory_;
};

TEST_F(ReceiptTest, SaysEverythingInTheDocumentedForm) {
  const auto signer = Open();
  const std::string receipt = SignOne(*signer);
  const std::string expected =
      R"({"version":2,"sequence":1,"previous":"","request_id":"req-1",)"
      R"("time":"2023-11-14T22:13:20.042Z","policy_sha256":")" +
      crypto::Sha256Hex("policy") +
      R"(","privacy":"redacted","key_id":"Ab3dEf9h","answer_sha256":")" +
      crypto::Sha256Hex("answer") +
      R"(","attempts":[{"target":"device-small","tier":"device_small","model":"phi-4-mini",)"
      R"("outcome":"handed_off","text_begin":0,"text_end":20,"prompt_tokens":10,)"
      R"("completion_tokens":5,"cached_tokens":2,"tokens_estimated":false,"egress":null},)"
      R"({"target":"cloud","tier":"cloud","model":"deepseek-v3.2","outcome":"answered",)"
      R"("text_begin":20,"text_end":50,"prompt_tokens":12,"completion_tokens":7,)"
      R"("cached_tokens":0,"tokens_estimated":true,"egress":{"destination":)"
      R"("api.deepseek.com:443","bytes":321,"sha256":")" +
      crypto::Sha256Hex("body") + R"("}}],"public_key":")" + signer->public_key().Id() +
      R"(","batch":{"size":1,"index":0,"path":[]},"signature":")";
  EXPECT_EQ(receipt.substr(0, expected.size()), expected);
  EXPECT_EQ(receipt.size(), expected.size() + 128 + 2);
  EXPECT_TRUE(boost::json::parse(receipt).is_object());
}

TEST_F(ReceiptTest, VerifiesAndTellsWhatLeft) {
  const auto signer = Open();
  const auto verified = VerifyReceipt(SignOne(*signer), signer->public_key());
  ASSERT_TRUE(verified) << verified.error().message;
  EXPECT_EQ(verified->request_id, "req-1");
  EXPECT_EQ(verified->answer_sha256, crypto::Sha256Hex("answer"));
  EXPECT_THAT(verified->egress,
              ElementsAre(Egress{"api.deepseek.com:443", 321, crypto::Sha256Hex("body")}));
}

TEST_F(ReceiptTest, EveryChangedByteIsNoticed) {
  const auto signer = Open();
  const std::string receipt = SignOne(*signer);
  const crypto::PublicKey key = signer->public_key();
  ASSERT_TRUE(VerifyReceipt(receipt, key));
  for (size_t i = 0; i < receipt.size(); ++i) {
    for (const int flip : {0x01, 0x20, 0x80}) {  // another digit, the other case, no ASCII
      std::string changed = receipt;
      changed[i] = static_cast<char>(changed[i] ^ flip);
      EXPECT_FALSE(VerifyReceipt(changed, key)) << i << " " << flip;
    }
    std::string shorter = receipt;
    shorter.erase(i, 1);
    EXPECT_FALSE(VerifyReceipt(shorter, key)) << i;
    std::string longer = receipt;
    longer.insert(i, " ");
    EXPECT_FALSE(VerifyReceipt(longer, key)) << i;
  }
  EXPECT_FALSE(VerifyReceipt(receipt + "\n", key));
  EXPECT_FALSE(VerifyReceipt("", key));
}

TEST_F(ReceiptTest, EachOfABatchVerifiesAlone) {
  const auto signer = Open();
  uint64_t sequence = 0;
  std::string previous;
  for (const size_t n : {1, 2, 3, 7, 64, 100}) {
    const std::vector<std::string> receipts = SignMany(*signer, n);
    ASSERT_EQ(receipts.size(), n);
    for (size_t i = 0; i < n; ++i) {
      const auto verified = VerifyReceipt(receipts[i], signer->public_key());
      ASSERT_TRUE(verified) << i << " of " << n << ": " << verified.error().message;
      EXPECT_EQ(verified->request_id, "req-" + std::to_string(i));
      EXPECT_EQ(verified->sequence, ++sequence);
      EXPECT_EQ(verified->previous, previous);
      previous = ReceiptDigest(receipts[i]);
    }
  }
  EXPECT_THAT(signer->Sign({}), testing::IsEmpty());
}

TEST_F(ReceiptTest, EveryChangedByteOfOneInABatchIsNoticed) {
  const auto signer = Open();
  const std::string receipt = SignMany(*signer, 11)[6];
  ASSERT_TRUE(VerifyReceipt(receipt, signer->public_key()));
  for (size_t i = 0; i < receipt.size(); ++i) {
    std::string changed = receipt;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_FALSE(VerifyReceipt(changed, signer->public_key())) << i;
  }
}

TEST_F(ReceiptTest, APathFromAnotherReceiptDoesNotVerify) {
  const auto signer = Open();
  const std::vector<std::string> receipts = SignMany(*signer, 4);
  const size_t a = receipts[0].find(",\"batch\"");
  const size_t b = receipts[1].find(",\"batch\"");
  EXPECT_EQ(VerifyReceipt(receipts[0].substr(0, a) + receipts[1].substr(b), signer->public_key())
                .error()
                .code,
            ErrorCode::kPermissionDenied);
}

TEST_F(ReceiptTest, FormOneVerifiesAndItsChainGoesOn) {
  const auto key = ReadKey();
  const std::string first = FormOne(
      key,
      R"({"version":1,"sequence":41,"previous":"","request_id":"old","answer_sha256":"","attempts":[{"egress":null}]})");
  const auto old = VerifyReceipt(first, key.Public());
  ASSERT_TRUE(old) << old.error().message;
  EXPECT_EQ(old->sequence, 41u);
  const auto next = VerifyReceipt(SignOne(*Open(first)), key.Public());
  ASSERT_TRUE(next);
  EXPECT_EQ(next->sequence, 42u);
  EXPECT_EQ(next->previous, crypto::Sha256Hex(first));
}

TEST_F(ReceiptTest, APayloadOfOneFormIsNotTakenInTheOther) {
  // What form 2 says, signed as form 1 would be, and the other way round.
  const auto key = ReadKey();
  EXPECT_EQ(
      VerifyReceipt(
          FormOne(
              key,
              R"({"version":2,"sequence":1,"previous":"","request_id":"r","answer_sha256":"","attempts":[]})"),
          key.Public())
          .error()
          .code,
      ErrorCode::kInvalidArgument);
}

TEST_F(ReceiptTest, AnotherKeyDoesNotVerify) {
  const std::string receipt = SignOne(*Open());
  const auto verified = VerifyReceipt(receipt, crypto::SigningKey::Generate().Public());
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().code, ErrorCode::kPermissionDenied);
  EXPECT_THAT(verified.error().message, HasSubstr("another key"));
}

TEST_F(ReceiptTest, WhatIsNoReceiptIsSaidSo) {
  const auto key = crypto::SigningKey::Generate();
  const auto code_of = [&](const std::string& payload) {
    const auto verified = VerifyReceipt(FormOne(key, payload), key.Public());
    return verified ? ErrorCode::kInternal : verified.error().code;
  };
  for (
      const std::string_view payload :
      {"{}", R"({"version":2})", R"({"version":1,"sequence":-1})", "x}", "{",
       R"({"version":1,"sequence":1,"previous":"","request_id":"r","answer_sha256":"","attempts":[1]})",
       R"({"version":1,"sequence":1,"previous":"","request_id":"r","answer_sha256":"","attempts":[{"egress":1}]})",
       R"({"version":1,"sequence":1,"previous":"","request_id":"r","answer_sha256":"","attempts":[{"egress":{"bytes":1}}]})"}) {
    EXPECT_EQ(code_of(std::string(payload)), ErrorCode::kInvalidArgument) << payload;
  }
}

TEST_F(ReceiptTest, ReceiptsOfANodeAreAChainThatGoesOnAfterARestart) {
  std::vector<std::string> receipts;
  {
    const auto signer = Open();
    for (int i = 0; i < 3; ++i) receipts.push_back(SignOne(*signer));
  }
  const auto signer = Open(receipts.back());
  receipts.push_back(SignOne(*signer));
  std::string previous;
  for (size_t i = 0; i < receipts.size(); ++i) {
    const auto verified = VerifyReceipt(receipts[i], signer->public_key());
    ASSERT_TRUE(verified);
    EXPECT_EQ(verified->sequence, i + 1);
    EXPECT_EQ(verified->previous, previous);
    previous = ReceiptDigest(receipts[i]);
  }
}

TEST_F(ReceiptTest, ThreadsThatSignAtOnceMakeOneChain) {
  const auto signer = Open();
  std::vector<std::string> receipts[3];
  {
    std::vector<std::jthread> threads;
    for (auto& own : receipts) {
      threads.emplace_back([&signer, &own] {
        for (int i = 0; i < 20; ++i) own.push_back(SignOne(*signer));
      });
    }
  }
  std::map<uint64_t, std::string> by_sequence;
  for (const auto& own : receipts) {
    for (const std::string& receipt : own) {
      by_sequence[VerifyReceipt(receipt, signer->public_key())->sequence] = receipt;
    }
  }
  ASSERT_EQ(by_sequence.size(), 60u);
  EXPECT_EQ(by_sequence.rbegin()->first, 60u);
  std::string previous;
  for (const auto& [sequence, receipt] : by_sequence) {
    EXPECT_EQ(VerifyReceipt(receipt, signer->public_key())->previous, previous);
    previous = ReceiptDigest(receipt);
  }
}

TEST_F(ReceiptTest, TheKeyIsMadeOnceForItsOwnerAlone) {
  const auto path = directory_.path() / "receipt-key.pem";
  EXPECT_EQ(ReadReceiptKey(path).error().code, ErrorCode::kNotFound);
  const std::string id = Open()->public_key().Id();
  EXPECT_EQ(Open()->public_key().Id(), id);
  EXPECT_EQ(ReadReceiptKey(path)->Id(), id);
  using std::filesystem::perms;
  EXPECT_EQ(std::filesystem::status(path).permissions(), perms::owner_read | perms::owner_write);

  std::filesystem::permissions(path, perms::owner_read | perms::owner_write | perms::others_read);
  EXPECT_EQ(ReceiptSigner::Open(path, "").error().code, ErrorCode::kFailedPrecondition);
  ASSERT_TRUE(os::WriteFileAtomic(path, "no key", 0600));
  EXPECT_EQ(ReceiptSigner::Open(path, "").error().code, ErrorCode::kCorrupt);
}

TEST_F(ReceiptTest, ALastReceiptThatIsNoneIsRefused) {
  const auto signer = ReceiptSigner::Open(directory_.path() / "receipt-key.pem", "{}");
  ASSERT_FALSE(signer);
  EXPECT_EQ(signer.error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace tandem::gateway::privacy
