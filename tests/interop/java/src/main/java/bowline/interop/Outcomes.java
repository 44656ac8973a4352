/*
 * What became of every call of a case: each call must get exactly one outcome. Outcomes are named: "ok", "wrong_reply",
 * the exception's class, and for InvokeException its status too.
 */
package bowline.interop;

import com.google.gson.JsonObject;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

final class Outcomes {
    private static final Pattern STATUS = Pattern.compile("(?:invocation exception: |responseStatus:)([A-Z_]+)");

    private final Map<String, Integer> counts = new TreeMap<>();
    private final Map<Integer, Integer> perCall = new TreeMap<>();
    private String lastError = "";
    private String lastReply = "";
    private int doubled;

    static String name(Throwable e) {
        Throwable cause = e instanceof ExecutionException && e.getCause() != null ? e.getCause() : e;
        String name = cause.getClass().getSimpleName();
        Matcher status = STATUS.matcher(String.valueOf(cause.getMessage()));
        return name.equals("InvokeException") && status.find() ? name + ":" + status.group(1) : name;
    }

    synchronized void started(int serial) {
        perCall.put(serial, 0);
    }

    synchronized void ended(int serial, String outcome, String detail) {
        if (perCall.merge(serial, 1, Integer::sum) > 1) {
            doubled++;
        }
        counts.merge(outcome, 1, Integer::sum);
        String text = detail == null ? "" : detail.length() > 200 ? detail.substring(0, 200) : detail;
        if (outcome.equals("ok")) {
            lastReply = text;
        } else {
            lastError = outcome + ": " + text;
        }
    }

    void failed(int serial, Throwable e) {
        String cause = e.getCause() == null ? "" : " / " + e.getCause();
        ended(serial, name(e), e.getMessage() + cause);
    }

    synchronized int count(String outcome) {
        return counts.getOrDefault(outcome, 0);
    }

    /** True when every call that started ended once, and each in one of the expected ways (all ways if null). */
    synchronized boolean asExpected(java.util.Set<String> expected) {
        boolean each = missing() == 0 && doubled == 0 && !counts.containsKey("wrong_reply");
        return each && (expected == null || expected.containsAll(counts.keySet()));
    }

    synchronized void write(JsonObject into) {
        into.addProperty("sent", perCall.size());
        into.addProperty("answered", counts.values().stream().mapToInt(Integer::intValue).sum());
        into.addProperty("doubled", doubled);
        into.addProperty("missing", missing());
        into.add("outcomes", Lines.counts(counts));
        into.addProperty("last_reply", lastReply);
        into.addProperty("last_error", lastError);
    }

    private int missing() {
        return (int) perCall.values().stream().filter(times -> times == 0).count();
    }
}
