// The password of each line, which is a client id and a username in one: java Passwords FILE
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;

public class Passwords {
    public static void main(String[] args) throws Exception {
        for (String line : Files.readAllLines(Path.of(args[0]), StandardCharsets.UTF_8)) {
            byte[] digest = MessageDigest.getInstance("MD5").digest(line.getBytes(StandardCharsets.UTF_8));
            System.out.println(HexFormat.of().formatHex(digest));
        }
    }
}
