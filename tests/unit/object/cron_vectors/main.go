// SPDX-License-Identifier: Apache-2.0

// Prints vectors for test_cron.c: `zone<TAB>schedule<TAB>from<TAB>next` (0: none within five years),
// or `zone<TAB>schedule<TAB>!<TAB>error`, by the library that Kubernetes uses.
package main

import (
	"fmt"
	"math/rand"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

var zones = []string{"UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe",
	"Asia/Kolkata", "Pacific/Apia", "America/St_Johns", "Africa/Casablanca", "Asia/Tehran", "Pacific/Auckland"}

var schedules = []string{
	"* * * * *", "*/1 * * * ?", "0 0 * * *", "30 2 * * *", "15 1 * * *", "0 0 1 * *", "0 0 29 2 *", "59 23 31 2 *",
	"0 0 31 * *", "0 9-17/4 * * mon-fri", "0 0 13 * 5", "0 0 * * SUN", "15,45 3 1 jan,JUL *", "@hourly", "@daily",
	"@midnight", "@weekly", "@monthly", "@yearly", "@annually", "@every 90s", "@every 1h30m", "@every 0.3s",
	"@every 1.7s", "5/20 * * * *", "0 */12 * * *", "30 6-16/4 * * 1-5", "0 0 1-7 * */2", "0 0 */5 * 3", "1-59/2 3 * 11 *",
	"0 1 * * 0", "30 1 * 3,10,11 *", "0 0 15 10 ?", "*/7 0-3 */2 * *", "0 24 * * *", "60 * * * *", "* * 0 * *",
	"* * * 13 *", "* * * * 7", "5-1 * * * *", "*/0 * * * *", "a * * * *", "* * * *", "* * * * * *", "", " ",
	"1-2-3 * * * *", "1/2/3 * * * *", "-1 * * * *", "+5 * * * *", "1, * * * *", ", * * * *", "@never", "@every x",
	"@every -5s", "* * * feb-apr tue", "* * * xyz *", "TZ=UTC 5 4 * * *", "CRON_TZ=Asia/Tokyo 5 4 * * *",
	"TZ=Nowhere/Else 0 0 * * *", "TZ=../../etc/passwd 0 0 * * *", "0  0\t1 1 *", "* * * * mon,tue,wed", "*/61 * * * *",
	"0 0 1 */3 *", "0 12 * jan-dec/2 fri#2", "1e1 * * * *", "0x1 * * * *", "*-5 * * * *", "*/5/5 * * * *", "0 0 L * *"}

func main() {
	r := rand.New(rand.NewSource(1))
	special := []string{"2026-03-28T23:30:00Z", "2026-10-25T00:15:00Z", "2026-03-08T06:30:00Z", "2026-11-01T05:30:00Z",
		"2018-11-03T20:00:00Z", "2018-02-17T20:00:00Z", "2026-04-04T14:00:00Z", "2011-12-29T20:00:00Z",
		"2099-12-31T23:59:59Z", "2050-03-26T00:00:00Z", "2050-10-29T23:00:00Z", "1990-06-01T12:34:56Z"}
	for i, s := range schedules {
		for j, z := range zones {
			text := s
			if z != "UTC" {
				if strings.Contains(s, "TZ=") || strings.TrimSpace(s) == "" {
					continue
				}
				text = "TZ=" + z + " " + s
			}
			sched, err := cron.ParseStandard(text)
			if err != nil {
				if j == 0 {
					fmt.Printf("%s\t%s\t!\t%v\n", z, s, err)
				}
				continue
			}
			for k := 0; k < 2; k++ {
				from, _ := time.Parse(time.RFC3339, special[(i+7*j+k*5)%len(special)])
				if k == 1 {
					from = time.Unix(int64(946684800+r.Intn(40*365*86400)), 0)
				}
				next := sched.Next(from.UTC())
				n := int64(0)
				if !next.IsZero() {
					n = next.Unix()
				}
				fmt.Printf("%s\t%s\t%d\t%d\n", z, s, from.Unix(), n)
			}
		}
	}
}
