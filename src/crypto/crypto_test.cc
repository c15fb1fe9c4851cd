#include <algorithm>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "crypto/digest.h"
#include "crypto/random.h"

namespace tandem::crypto {
namespace {

// FIPS 180-4 example values.
TEST(DigestTest, Sha256MatchesThePublishedVectors) {
  EXPECT_EQ(Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(DigestTest, StreamingEqualsAtOnceAndFinishStartsAnew) {
  const std::string text(1000, 'x');
  Sha256 sha;
  for (size_t at = 0; at < text.size(); at += 7) sha.Update(std::string_view(text).substr(at, 7));
  EXPECT_EQ(sha.Finish(), Sha256Of(text));
  sha.Update("abc");
  EXPECT_EQ(sha.Finish(), Sha256Of("abc"));
}

// RFC 4231, test case 2.
TEST(DigestTest, HmacMatchesThePublishedVector) {
  EXPECT_EQ(Hex(HmacSha256("Jefe", "what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

// A context is kept for each thread: nothing of one key or message may reach the next.
TEST(DigestTest, HmacOfChangingKeysAndThreadsIsThatOfEachAlone) {
  const std::string long_key(200, 'k');  // longer than a block: its digest is the key
  const auto check = [&] {
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(Hex(HmacSha256("", "")),
                "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
      EXPECT_EQ(Hex(HmacSha256("Jefe", "what do ya want for nothing?")),
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
      EXPECT_EQ(Hex(HmacSha256({}, {})),  // behind another key, which must not stay
                "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
      const Digest key = Sha256Of(long_key);
      const std::string digested(reinterpret_cast<const char*>(key.data()), key.size());
      EXPECT_EQ(HmacSha256(long_key, "m"), HmacSha256(digested, "m"));
    }
  };
  check();
  std::jthread other(check);
  check();
}

TEST(DigestTest, HexRoundTripsAndRefusesBadInput) {
  EXPECT_EQ(FromHex("00fFa1").value(), std::string("\x00\xFF\xA1", 3));
  EXPECT_EQ(FromHex("0").error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(FromHex("0g").error().code, ErrorCode::kInvalidArgument);
}

TEST(RandomTest, TwoDrawsDifferAndFillEverything) {
  std::array<uint8_t, 64> first{};
  std::array<uint8_t, 64> second{};
  RandomBytes(first);
  RandomBytes(second);
  EXPECT_NE(first, second);
  EXPECT_NE(std::count(first.begin(), first.end(), 0), 64);
}

TEST(RandomTest, NumbersDiffer) { EXPECT_NE(RandomUint64(), RandomUint64()); }

TEST(RandomTest, ConstantTimeEqualComparesLengthAndContent) {
  EXPECT_TRUE(ConstantTimeEqual("secret", "secret"));
  EXPECT_FALSE(ConstantTimeEqual("secret", "secreT"));
  EXPECT_FALSE(ConstantTimeEqual("secret", "secret!"));
  EXPECT_TRUE(ConstantTimeEqual("", ""));
}

}  // namespace
}  // namespace tandem::crypto
