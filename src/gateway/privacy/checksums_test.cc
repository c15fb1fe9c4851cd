#include "gateway/privacy/checksums.h"

#include <string>

#include <gtest/gtest.h>

namespace tandem::gateway::privacy {
namespace {

// The example of ISO/IEC 7812-1, and the numbers that card schemes publish for tests.
TEST(ChecksumsTest, LuhnAcceptsPublishedNumbers) {
  for (const std::string_view number :
       {"79927398713", "4111111111111111", "5555555555554444", "378282246310005",
        "6011111111111117", "30569309025904", "3530111333300000", "4222222222222",
        "6200000000000005", "2223003122003222", "5019717010103742"}) {
    EXPECT_TRUE(LuhnIsValid(number)) << number;
  }
}

// Every single wrong digit is found, and every swap of neighbours but 09 and 90 (the known gap).
TEST(ChecksumsTest, LuhnFindsWrongDigitsAndSwaps) {
  const std::string valid = "4539578763621486";
  ASSERT_TRUE(LuhnIsValid(valid));
  for (size_t i = 0; i < valid.size(); ++i) {
    for (char c = '0'; c <= '9'; ++c) {
      std::string wrong = valid;
      wrong[i] = c;
      EXPECT_EQ(LuhnIsValid(wrong), c == valid[i]);
    }
    if (i + 1 == valid.size() || valid[i] == valid[i + 1]) continue;
    std::string swapped = valid;
    std::swap(swapped[i], swapped[i + 1]);
    EXPECT_FALSE(LuhnIsValid(swapped)) << swapped;
  }
  EXPECT_FALSE(LuhnIsValid(""));
  EXPECT_FALSE(LuhnIsValid("411111111111111x"));
}

TEST(ChecksumsTest, CardsNeedASchemesRangeBesideLuhn) {
  for (const std::string_view number : {"4111111111111111", "5555555555554444", "2223003122003222",
                                        "378282246310005", "6011111111111117", "30569309025904",
                                        "3530111333300000", "6200000000000005", "4222222222222"}) {
    EXPECT_TRUE(IsCardNumber(number)) << number;
  }
  // Luhn-valid, but nobody issues them; or too short, or too long.
  for (const std::string_view number :
       {"1111111111111117", "0000000000000000", "9999999999999995", "7992739871300000",
        "411111111116", "41111111111111111111", "352099001761481"}) {
    EXPECT_FALSE(IsCardNumber(number)) << number;
  }
}

// Examples of the IBAN registry, one for each kind of structure.
TEST(ChecksumsTest, IbansOfTheRegistryAreValid) {
  for (const std::string_view iban : {"AD1200012030200359100100",
                                      "AE070331234567890123456",
                                      "AT611904300234573201",
                                      "BE68539007547034",
                                      "BR9700360305000010009795493P1",
                                      "CH9300762011623852957",
                                      "CY17002001280000001200527600",
                                      "CZ6508000000192000145399",
                                      "DE89370400440532013000",
                                      "DK5000400440116243",
                                      "EE382200221020145685",
                                      "ES9121000418450200051332",
                                      "FI2112345600000785",
                                      "FR1420041010050500013M02606",
                                      "GB29NWBK60161331926819",
                                      "GR1601101250000000012300695",
                                      "HU42117730161111101800000000",
                                      "IE29AIBK93115212345678",
                                      "IL620108000000099999999",
                                      "IS140159260076545510730339",
                                      "IT60X0542811101000000123456",
                                      "KW81CBKU0000000000001234560101",
                                      "LC55HEMM000100010012001200023015",
                                      "LU280019400644750000",
                                      "MT84MALT011000012345MTLCAST001S",
                                      "MU17BOMM0101101030300200000MUR",
                                      "NL91ABNA0417164300",
                                      "NO9386011117947",
                                      "PL61109010140000071219812874",
                                      "PT50000201231234567890154",
                                      "RO49AAAA1B31007593840000",
                                      "SA0380000000608010167519",
                                      "SE4550000000058398257466",
                                      "SI56263300012039086",
                                      "TR330006100519786457841326",
                                      "UA213223130000026007233566001",
                                      "XK051212012345678906"}) {
    EXPECT_TRUE(IsIban(iban)) << iban;
    std::string lower(iban);
    for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    EXPECT_TRUE(IsIban(lower)) << lower;
  }
}

// A digit for a digit, a letter for a letter: one of the other kind may keep the remainder.
TEST(ChecksumsTest, IbanFindsEveryWrongCharacter) {
  const std::string valid = "GB29NWBK60161331926819";
  for (size_t i = 0; i < valid.size(); ++i) {
    for (const char c : std::string_view("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")) {
      if ((c <= '9') != (valid[i] <= '9')) continue;
      std::string wrong = valid;
      wrong[i] = c;
      EXPECT_EQ(IsIban(wrong), c == valid[i]) << wrong;
    }
  }
  EXPECT_FALSE(IsIban("GB29NWBK6016133192681"));    // short
  EXPECT_FALSE(IsIban("GB29NWBK601613319268190"));  // long
  EXPECT_FALSE(IsIban("ZZ29NWBK60161331926819"));   // no such country
  EXPECT_FALSE(IsIban("DE8937040044053201300!"));
  EXPECT_FALSE(IsIban(""));
}

}  // namespace
}  // namespace tandem::gateway::privacy
