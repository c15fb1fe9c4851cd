#include "gateway/privacy/secret_finder.h"

#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/privacy/folded_text.h"

namespace tandem::gateway::privacy {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::vector<std::string> kNames = {"Alice",     "José García", "Nguyễn Văn An", "王小明",
                                         "สมชาย ใจดี", "Müller",      "김철수"};

// "EMAIL:alice@example.com" for each secret.
std::vector<std::string> Found(std::string_view text) {
  std::vector<std::string> found;
  for (const SecretSpan& span : SecretFinder(kNames).Find(text)) {
    found.push_back(std::string(LabelOf(span.kind)) + ":" +
                    std::string(text.substr(span.begin, span.end - span.begin)));
  }
  return found;
}

TEST(SecretFinderTest, Emails) {
  EXPECT_THAT(Found("write to bob.smith+news@mail.example.co.uk, please"),
              ElementsAre("EMAIL:bob.smith+news@mail.example.co.uk"));
  EXPECT_THAT(Found("<bob@example.com>, 'o'brien@example.org'."),
              ElementsAre("EMAIL:bob@example.com", "EMAIL:o'brien@example.org"));
  EXPECT_THAT(Found("我的邮箱是bob@example.com，谢谢"), ElementsAre("EMAIL:bob@example.com"));
  EXPECT_THAT(Found("อีเมลbob@example.comครับ"), ElementsAre("EMAIL:bob@example.com"));
  EXPECT_THAT(Found("用户@例子.广告"), ElementsAre("EMAIL:用户@例子.广告"));
  EXPECT_THAT(Found("jörg@müller.de"), ElementsAre("EMAIL:jörg@müller.de"));
  EXPECT_THAT(Found("bob＠example．com"), ElementsAre("EMAIL:bob＠example．com"));
  EXPECT_THAT(Found("bo\u00ADb@exam\u200Bple.com"),
              ElementsAre("EMAIL:bo\u00ADb@exam\u200Bple.com"));
  EXPECT_THAT(Found("bob@example.xn--p1ai."), ElementsAre("EMAIL:bob@example.xn--p1ai"));
}

TEST(SecretFinderTest, Cards) {
  EXPECT_THAT(Found("4111111111111111"), ElementsAre("CARD:4111111111111111"));
  EXPECT_THAT(Found("card 4111 1111 1111 1111 exp 12/26"), ElementsAre("CARD:4111 1111 1111 1111"));
  EXPECT_THAT(Found("4111-1111-1111-1111, 123"), ElementsAre("CARD:4111-1111-1111-1111"));
  EXPECT_THAT(Found("3782 822463 10005"), ElementsAre("CARD:3782 822463 10005"));
  EXPECT_THAT(Found("卡号4111111111111111。"), ElementsAre("CARD:4111111111111111"));
  EXPECT_THAT(Found("４１１１ １１１１ １１１１ １１１１"),
              ElementsAre("CARD:４１１１ １１１１ １１１１ １１１１"));
  EXPECT_THAT(Found("4111\u00A01111\u00A01111\u00A01111"),
              ElementsAre("CARD:4111\u00A01111\u00A01111\u00A01111"));
  EXPECT_THAT(Found("12 4111 1111 1111 1111 12"), ElementsAre("CARD:4111 1111 1111 1111"));
}

TEST(SecretFinderTest, Ibans) {
  EXPECT_THAT(Found("IBAN: DE89 3704 0044 0532 0130 00."),
              ElementsAre("IBAN:DE89 3704 0044 0532 0130 00"));
  EXPECT_THAT(Found("gb29nwbk60161331926819"), ElementsAre("IBAN:gb29nwbk60161331926819"));
  EXPECT_THAT(Found("转到ES9121000418450200051332吧"),
              ElementsAre("IBAN:ES9121000418450200051332"));
  EXPECT_THAT(Found("DE89 3704 0044 0532 0130 01"), IsEmpty());
}

TEST(SecretFinderTest, PhonesInTheFormsOfManyCountries) {
  for (const std::string_view phone :
       {"+1 415 555 2671", "+1 (415) 555-2671", "+442079460958",     "+44 20 7946 0958",
        "+49 30 901820",   "+34 612 345 678",   "+62 812-3456-7890", "+84 90 123 45 67",
        "+66 81 234 5678", "+86 138 0013 8000", "+86-10-6552-9988",  "0049 30 901820",
        "(415) 555-2671",  "415-555-2671",      "415.555.2671",      "1-800-555-0199",
        "020 7946 0958",   "07400 123456",      "(030) 901820",      "030/901820",
        "0171 1234567",    "06 12 34 56 78",    "06.12.34.56.78",    "612 345 678",
        "912 34 56 78",    "0812-3456-7890",    "081234567890",      "0912345678",
        "090 123 4567",    "081-234-5678",      "02-123-4567",       "13800138000",
        "138-0013-8000",   "138 0013 8000",     "010-62345678",      "０８１２３４５６７８",
        "๐๘๑-๒๓๔-๕๖๗๘"}) {
    const std::string text = "ring " + std::string(phone) + " today";
    EXPECT_THAT(Found(text), ElementsAre("PHONE:" + std::string(phone)));
  }
  EXPECT_THAT(Found("tel: 555-1234"), ElementsAre("PHONE:555-1234"));
  EXPECT_THAT(Found("my phone number is 4155552671."), ElementsAre("PHONE:4155552671"));
  EXPECT_THAT(Found("电话：62345678"), ElementsAre("PHONE:62345678"));
  EXPECT_THAT(Found("+49 30 901820 2023-01-05"), ElementsAre("PHONE:+49 30 901820"));
}

TEST(SecretFinderTest, IpAddresses) {
  EXPECT_THAT(Found("from 192.168.1.17 to 8.8.8.8:53, 10.0.0.0/8"),
              ElementsAre("IP:192.168.1.17", "IP:8.8.8.8", "IP:10.0.0.0"));
  EXPECT_THAT(Found("2001:0db8:85a3:0000:0000:8a2e:0370:7334"),
              ElementsAre("IP:2001:0db8:85a3:0000:0000:8a2e:0370:7334"));
  EXPECT_THAT(Found("[2001:db8::1]:443 and fe80::1ff:fe23:4567:890a%eth0"),
              ElementsAre("IP:2001:db8::1", "IP:fe80::1ff:fe23:4567:890a%eth0"));
  EXPECT_THAT(Found("::ffff:192.168.1.17"), ElementsAre("IP:::ffff:192.168.1.17"));
  EXPECT_THAT(Found("ip=2001:db8::1, addr:2001:db8::2,：2001:db8::3"),
              ElementsAre("IP:2001:db8::1", "IP:2001:db8::2", "IP:2001:db8::3"));
}

TEST(SecretFinderTest, KeysByTheirIssuersForm) {
  for (const std::string_view key :
       {"sk-abcdefghijklmnopqrst1234", "sk-proj-aB3dE6gH9jK2mN5pQ8sT1vW4", "AKIAIOSFODNN7EXAMPLE",
        "tdm_live_Ab3dEf9h_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGxYz12Q",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOcHrzqqgy",
        "AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY", "glpat-xY7zK3mN9pQ2rS5tU8vW",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_"
        "XgL0n3I9PlFUP0THsR8U"}) {
    EXPECT_THAT(Found("use " + std::string(key) + " here"), ElementsAre("KEY:" + std::string(key)));
    EXPECT_THAT(Found("k=\"" + std::string(key) + "\""), ElementsAre("KEY:" + std::string(key)));
  }
}

TEST(SecretFinderTest, KeysBehindAWordThatSaysSo) {
  EXPECT_THAT(Found("api_key=9f86d081884c7d659a2feaa0c55ad015"),
              ElementsAre("KEY:9f86d081884c7d659a2feaa0c55ad015"));
  EXPECT_THAT(Found("\"clientSecret\": \"q8Zk2LmP0vXtR7wYbN4c\""),
              ElementsAre("KEY:q8Zk2LmP0vXtR7wYbN4c"));
  EXPECT_THAT(Found("Authorization: Bearer q8Zk2LmP0vXtR7wYbN4cJd=="),
              ElementsAre("KEY:q8Zk2LmP0vXtR7wYbN4cJd=="));
  EXPECT_THAT(Found("我的密钥是9f86d081884c7d659a2feaa0c55ad015"),
              ElementsAre("KEY:9f86d081884c7d659a2feaa0c55ad015"));
  EXPECT_THAT(Found("commit 9f86d081884c7d659a2feaa0c55ad015"), IsEmpty());
}

TEST(SecretFinderTest, PrivateKeysAsAWhole) {
  const std::string pem =
      "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nabc=\n-----END RSA PRIVATE KEY-----";
  EXPECT_THAT(Found("key:\n" + pem + "\nbye"), ElementsAre("KEY:" + pem));
  EXPECT_THAT(Found("-----BEGIN PRIVATE KEY-----\nMIIEow\n"),
              ElementsAre("KEY:-----BEGIN PRIVATE KEY-----\nMIIEow\n"));
  EXPECT_THAT(Found("-----BEGIN CERTIFICATE-----\nMIIEow\n-----END CERTIFICATE-----"), IsEmpty());
}

TEST(SecretFinderTest, NamesFromTheListInAnyCaseAndScript) {
  EXPECT_THAT(Found("Alice's and ALICE, not Malice or alices"),
              ElementsAre("NAME:Alice", "NAME:ALICE"));
  EXPECT_THAT(Found("jose\u0301  GARCÍA, Jose Garcia"),
              ElementsAre("NAME:jose\u0301  GARCÍA", "NAME:Jose Garcia"));
  EXPECT_THAT(Found("chị NGUYỄN VĂN AN và anh"), ElementsAre("NAME:NGUYỄN VĂN AN"));
  EXPECT_THAT(Found("我叫王小明。"), ElementsAre("NAME:王小明"));
  EXPECT_THAT(Found("ชื่อสมชาย ใจดีครับ"), ElementsAre("NAME:สมชาย ใจดี"));
  EXPECT_THAT(Found("김철수는"), ElementsAre("NAME:김철수"));
  EXPECT_THAT(Found("王Alice小"), ElementsAre("NAME:Alice"));
}

TEST(SecretFinderTest, PlaceholdersThatStandInTheTextAlready) {
  EXPECT_THAT(Found("[EMAIL_1] [IP_22] [EMAIL\\_3] [email_1] [EMAIL_] [OTHER_1]"),
              ElementsAre("EMAIL:[EMAIL_1]", "IP:[IP_22]", "EMAIL:[EMAIL\\_3]"));
}

// What is no secret stays: the answer would be worse without it.
TEST(SecretFinderTest, OrdinaryTextsHaveNone) {
  for (
      const char* text : {
          "Meet on 2023-11-05 at 10:30, or 05.11.2023, 11/05/2023, 5.11.23 14:00-15:30.",
          "2024-01-15T08:30:00.000Z 20240115 1700000000 1700000000000",
          "On 01.02.2023 08.30 until 03/04/2024 12.45; 01-02-2023 to 05-06-2023",
          "It costs $1,299.99, 1.299,99 €, 12 345,00 zł, Rp 1.250.000, 15.000.000 ₫, ¥9800.",
          "612 345 678 € in total; EUR 912 345 678; 081 234 567 VND",
          "Version 1.2.3.4, v2.10.0, Chrome/120.0.6099.109, 10.0.19045.3803, 3.11.4-rc1, ver. "
          "4.3.2.1",
          "550e8400-e29b-41d4-a716-446655440000 12345678-1234-4123-8123-123456789012",
          "a1b2c3d4-1111-4111-8111-411111111111",
          "Order 1002345678, order no. 0912345678, invoice 2023-000123, #4155552671, "
          "ORD-0912345678",
          "订单 13800138000 已发货; Bestellung 030 1234567",
          "ISBN 978-3-16-148410-0, EAN 4006381333931, 123456789012",
          "std::vector<int> a::b; Face::dead; use crate::abc::def; 12:34:56; 00:1A:2B:3C:4D:5E",
          "int x = 4294967296; double pi = 3.14159265358979; 0xdeadbeefcafebabe; 1e10; a[12345678]",
          "git commit 3f786850e387550fdab836ed7e6dc881de23001b; sha256 "
          "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
          "@Override, @app.route('/x'), user@localhost, lodash@4.17.21, icon@2x.png, a@b",
          "127.0.0.1:8080, 0.0.0.0, 255.255.255.0, ::1, ::, 1.2.3, 256.1.1.1, 1.2.3.4.5",
          "The key is in /etc/tandem/keys/server-2024.pem and the token is a word.",
          "monkey9business8hotel7india6juliet; primaryKeyColumnName2Index; keyboard layouts",
          "sk-learn-and-other-packages-for-python are not keys; task-1234; risk-averse",
          "population 1 411 750 000; 4111 1111 1111 1112; 1234 5678 9012 3456; 0000 0000 0000 0000",
          "1 2 3 4 5 6 7 8 9 10 11 12; 100 200 300 400; 2+12345678=12345680; 50%, 3-4, 10/12",
          "lat 52.520008, lon 13.404954; 192.0.2 and 10.5/8.25/12.75; pages 100-200",
          "DE89 is a room; AB12 CD34; GB29NWBK60161331926818; section 4.1.1.1.1",
          "人口为1411750000，价格是¥1299，日期2023年11月5日。",
          "ราคา 1,299 บาท วันที่ 05/11/2566",
          "Giá 15.000.000 đ, ngày 05/11/2023, mã đơn 0912345678",
          "Harga Rp 081.234.567",
      }) {
    EXPECT_THAT(Found(text), IsEmpty()) << text;
  }
}

TEST(SecretFinderTest, OverlappingFindingsAreOneSecret) {
  EXPECT_THAT(Found("alice@example.com"), ElementsAre("EMAIL:alice@example.com"));
  EXPECT_THAT(Found("DE89 3704 0044 0532 0130 00@example.com"),
              ElementsAre("IBAN:DE89 3704 0044 0532 0130 00@example.com"));
  const auto spans = SecretFinder(kNames).Find("x@y.zz Alice 4111111111111111 x@y.zz");
  for (size_t i = 1; i < spans.size(); ++i) EXPECT_LE(spans[i - 1].end, spans[i].begin);
  EXPECT_EQ(spans.size(), 4u);
}

// Ill-formed UTF-8, and every beginning of a text with secrets: no crash, and offsets in range.
TEST(SecretFinderTest, AnyBytesAreTaken) {
  const std::string text =
      "a\xFF@b\xC3.com \xE4\xB8 +49\xC2 30 901820 Alice\xCC 4111\xE2\x80 -----BEGIN PRIVATE "
      "KEY----- "
      "eyJ.eyJ. [EMAIL_ DE89 2001:db8:: ::ffff:1.2.3 \xF0\x9F";
  for (size_t n = 0; n <= text.size(); ++n) {
    const std::string copy = text.substr(0, n);
    for (const SecretSpan& span : SecretFinder(kNames).Find(copy)) {
      EXPECT_LT(span.begin, span.end);
      EXPECT_LE(span.end, copy.size());
    }
  }
}

TEST(FoldedTextTest, OffsetsLeadBackToTheOriginal) {
  const std::string text = "a＠\u200Bb๑c";
  const FoldedText folded(text);
  EXPECT_EQ(folded.text(), "a@b1c");
  EXPECT_EQ(folded.Original(0, 1), (std::pair<size_t, size_t>(0, 1)));
  EXPECT_EQ(folded.Original(1, 2), (std::pair<size_t, size_t>(1, 4)));
  EXPECT_EQ(folded.Original(2, 3), (std::pair<size_t, size_t>(7, 8)));
  EXPECT_EQ(folded.Original(1, 4), (std::pair<size_t, size_t>(1, 11)));
  const FoldedText plain("München 東京");
  EXPECT_EQ(plain.text(), "München 東京");
}

}  // namespace
}  // namespace tandem::gateway::privacy
