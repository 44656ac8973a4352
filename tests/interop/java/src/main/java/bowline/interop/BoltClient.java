/*
 * A stock SOFABolt RpcClient under command: one JSON line in, one JSON line out (and event lines between). Without
 * arguments it reads commands from standard input until its end; with `--address .. --case ..` it runs that one case and
 * exits with 0 or 1.
 */
package bowline.interop;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

public final class BoltClient {
    private static final int COMMANDS_MAX = 64;

    private final Map<String, Session> kept = new ConcurrentHashMap<>();
    private final Map<String, Cases> running = new ConcurrentHashMap<>();

    public static void main(String[] args) throws Exception {
        Payload.registerSerializers();
        Arguments arguments = new Arguments(args);
        BoltClient peer = new BoltClient();
        if (arguments.isEmpty()) {
            peer.serveStandardInput();
            System.exit(0);
        }
        JsonObject answer = peer.run(arguments.command());
        Lines.print(answer);
        System.exit(answer.get("ok").getAsBoolean() ? 0 : 1);
    }

    private void serveStandardInput() throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(COMMANDS_MAX);
        JsonObject ready = new JsonObject();
        ready.addProperty("ready", true);
        ready.addProperty("peer", "java");
        Lines.print(ready);
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            if (line.isBlank()) {
                continue;
            }
            String text = line;
            pool.execute(() -> Lines.print(run(Lines.parse(text))));
        }
    }

    private JsonObject run(JsonObject json) {
        JsonObject answer = new JsonObject();
        echo(json, "id", answer);
        echo(json, "case", answer);
        long start = System.nanoTime();
        try {
            JsonObject result = dispatch(new Command(json), answer);
            result.entrySet().forEach(entry -> answer.add(entry.getKey(), entry.getValue()));
        } catch (Exception e) {
            answer.addProperty("ok", false);
            answer.addProperty("detail", Outcomes.name(e) + ": " + e.getMessage());
        }
        answer.addProperty("took_ms", (System.nanoTime() - start) / 1_000_000);
        return answer;
    }

    private static void echo(JsonObject from, String key, JsonObject into) {
        if (from.has(key)) {
            into.add(key, from.get(key));
        }
    }

    private JsonObject dispatch(Command command, JsonObject head) throws Exception {
        JsonObject done = new JsonObject();
        switch (command.text("case", "")) {
            case "stop":
            case "progress":
                Cases target = running.get(command.text("target", ""));
                done.addProperty("ok", target != null);
                if (target != null && command.text("case", "").equals("stop")) {
                    target.stop();
                } else if (target != null) {
                    target.progress().entrySet().forEach(entry -> done.add(entry.getKey(), entry.getValue()));
                }
                return done;
            case "release":
                Session released = kept.remove(command.text("client", ""));
                done.addProperty("ok", released != null);
                if (released != null) {
                    released.close();
                }
                return done;
            default:
                return inSession(command, head);
        }
    }

    private JsonObject inSession(Command command, JsonObject head) throws Exception {
        String name = command.text("client", null);
        Session session = name == null ? null : kept.get(name);
        if (session == null) {
            session = new Session(command);
            if (name != null) {
                kept.put(name, session);
            }
        }
        JsonElement id = command.element("id");
        Cases cases = new Cases(command, session, event -> print(head, event));
        if (id != null) {
            running.put(id.getAsString(), cases);
        }
        try {
            return cases.run();
        } finally {
            if (id != null) {
                running.remove(id.getAsString());
            }
            if (name == null) {
                session.close();
            }
        }
    }

    private static void print(JsonObject head, JsonObject event) {
        JsonObject line = head.deepCopy();
        event.entrySet().forEach(entry -> line.add(entry.getKey(), entry.getValue()));
        Lines.print(line);
    }
}
