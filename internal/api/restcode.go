package api

// The codes of the REST API that are decided here; rest.md section 1 has the
// table. Those of UserSigs are in package usersig, those of decisions in
// presence and directory.
const (
	codeBadHTTP      = 60002
	codeBadJSON      = 60003
	codeNoIdentifier = 60004
	codeOverRate     = 60007
	codeNoCommand    = 60009
	codeNoSDKAppID   = 60012
	codeForbiddenIP  = 60021
	codeNoKey        = 70016
	codeUnknownApp   = 70020
	codeLockedOut    = 70050
	codeTimeout      = 70169
	codeBadParameter = 70402
	codeNeedsAdmin   = 70403 // account service
	codeInternal     = 70500

	codeQueryBody       = 90001 // openim: not JSON, or To_Account missing or empty
	codeQueryType       = 90003 // To_Account has a wrong type
	codeQueryNeedsAdmin = 90009 // openim
	codeQueryTooMany    = 90011
	codeQueryTimeout    = 91000 // openim
)

// restCodes are all codes that a call can answer, for the counters: a code from
// elsewhere is counted as "other", so that the number of series is bounded.
var restCodes = []int{
	0, codeBadHTTP, codeBadJSON, codeNoIdentifier, codeOverRate, codeNoCommand, codeNoSDKAppID, codeForbiddenIP,
	70001, 70002, 70003, 70009, 70013, 70014, codeNoKey, codeUnknownApp, codeLockedOut, 70107, codeTimeout,
	codeBadParameter, codeNeedsAdmin, codeInternal, codeQueryBody, codeQueryType, codeQueryNeedsAdmin,
	codeQueryTooMany, 90992, codeQueryTimeout,
}

// service is a group of commands; its codes are those that differ between
// services for the same fault.
type service struct {
	name       string
	badJSON    int
	jsonText   string // ErrorInfo of badJSON; "" = what is wrong
	needsAdmin int
	timeout    int
}

var (
	openim = service{
		name: "openim", badJSON: codeQueryBody, jsonText: "Fail to Parse json data of body, Please check it",
		needsAdmin: codeQueryNeedsAdmin, timeout: codeQueryTimeout,
	}
	accounts = service{
		name: "im_open_login_svc", badJSON: codeBadJSON,
		needsAdmin: codeNeedsAdmin, timeout: codeTimeout,
	}
)

// command is one call of the API.
type command struct {
	service *service
	name    string
	batch   bool // counts against Limits.BatchCallsPerSecond
	bucket  int  // index of its rate; two names of one call share it
	serve   func(*restCall, []byte) ([]byte, int)
}

const numBuckets = 6

// commands are the calls by `<service>/<command>`.
var commands = func() map[string]*command {
	m := make(map[string]*command)
	for _, c := range []command{
		{&openim, "query_online_status", false, 0, (*restCall).query},
		{&openim, "querystate", false, 0, (*restCall).query},
		{&accounts, "kick", false, 1, (*restCall).kick},
		{&accounts, "account_import", false, 2, (*restCall).accountImport},
		{&accounts, "multiaccount_import", true, 3, (*restCall).multiImport},
		{&accounts, "account_check", true, 4, (*restCall).accountCheck},
		{&accounts, "account_delete", true, 5, (*restCall).accountDelete},
	} {
		m[c.service.name+"/"+c.name] = &c
	}
	return m
}()
