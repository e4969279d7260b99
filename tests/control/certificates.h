// Certificates made while a test runs.
#ifndef ND_TESTS_CONTROL_CERTIFICATES_H_
#define ND_TESTS_CONTROL_CERTIFICATES_H_

#include <memory>
#include <string>

#include "control/credentials.h"

namespace nd::control {

// A key and its certificate, in PEM.
struct Identity {
  std::string certificate;
  std::string key;
};

// Signs certificates that are good for a day. `name` is a DNS name or an
// address.
class Authority {
 public:
  explicit Authority(const std::string& name);
  ~Authority();

  const std::string& certificate() const { return certificate_; }
  Identity Issue(const std::string& name) const;

 private:
  struct Parts;
  const std::unique_ptr<Parts> parts_;
  std::string certificate_;
};

// A folder that is removed with what is in it.
class CredentialFiles {
 public:
  CredentialFiles();
  ~CredentialFiles();

  // The path of a file with that text.
  std::string Write(const std::string& name, const std::string& text);
  // Empty: no such file.
  Credentials Make(const std::string& ca, const Identity& identity);

 private:
  std::string folder_;
  int made_ = 0;
};

}  // namespace nd::control

#endif  // ND_TESTS_CONTROL_CERTIFICATES_H_
