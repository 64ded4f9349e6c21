package sts

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"sega/keychain/atomicfile"
)

// WriteEndpointRules writes dir/sts/2011-06-15/endpoint-rule-set-1.json with one rule that sends
// every STS call to rawURL. It is for clients that do not know AWS_ENDPOINT_URL_STS (aws-cli before
// 2.13, boto3 before 1.28): with AWS_DATA_PATH=dir botocore reads it instead of its own rules.
func WriteEndpointRules(dir, rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("sts: %q is not the URL of an endpoint", rawURL)
	}
	type object = map[string]any
	builtin := func(name, kind string) object {
		return object{"builtIn": name, "type": kind, "required": false, "documentation": name}
	}
	flag := func(name string) object {
		return object{"builtIn": name, "type": "Boolean", "required": true, "default": false, "documentation": name}
	}
	rules := object{
		"version": "1.0",
		"parameters": object{
			"Region": builtin("AWS::Region", "String"), "Endpoint": builtin("SDK::Endpoint", "String"),
			"UseDualStack": flag("AWS::UseDualStack"), "UseFIPS": flag("AWS::UseFIPS"),
			"UseGlobalEndpoint": flag("AWS::STS::UseGlobalEndpoint"),
		},
		"rules": []object{{"conditions": []object{}, "type": "endpoint",
			"endpoint": object{"url": rawURL, "headers": object{}, "properties": object{"authSchemes": []object{
				{"name": "sigv4", "signingName": "sts", "signingRegion": "us-east-1"}}}}}},
	}
	data, err := json.MarshalIndent(rules, "", "  ")
	if err != nil {
		return fmt.Errorf("sts: encode the endpoint rules: %w", err)
	}
	folder := filepath.Join(dir, "sts", version)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("sts: make the folder of the endpoint rules: %w", err)
	}
	if err := atomicfile.Replace(filepath.Join(folder, "endpoint-rule-set-1.json"), data, 0o600); err != nil {
		return fmt.Errorf("sts: write the endpoint rules: %w", err)
	}
	return nil
}
