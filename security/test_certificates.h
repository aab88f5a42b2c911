// Certificates for tests, made in the process in milliseconds: a CA, and what it signs.
#ifndef WEIGHTSTREAM_SECURITY_TEST_CERTIFICATES_H_
#define WEIGHTSTREAM_SECURITY_TEST_CERTIFICATES_H_

#include <memory>
#include <string>

namespace weightstream {

struct TestPair {
  std::string certificate_pem;
  std::string key_pem;
};

// Not thread-safe. Aborts the test where OpenSSL fails.
class TestCa {
 public:
  explicit TestCa(const std::string& common_name = "test CA");
  ~TestCa();
  TestCa(const TestCa&) = delete;
  TestCa& operator=(const TestCa&) = delete;

  const std::string& certificate_pem() const { return certificate_pem_; }

  // `names` as OpenSSL writes them: "DNS:localhost,IP:127.0.0.1". Valid from an hour ago for `valid_hours` from then;
  // 0 is one that has expired.
  TestPair Sign(const std::string& common_name, const std::string& names, int valid_hours = 25) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::string certificate_pem_;
};

}  // namespace weightstream

#endif  // WEIGHTSTREAM_SECURITY_TEST_CERTIFICATES_H_
